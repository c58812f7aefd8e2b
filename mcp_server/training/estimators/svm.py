"""Support vector machines with a kernel."""

from mcp_server.distributions import Categorical, Distribution, Float
from mcp_server.training.estimators._family import Family, Variant
from mcp_server.types import Params

_LIBRARY: Params = {
    "C": 1.0,
    "cache_size": 200,
    "coef0": 0.0,
    "degree": 3,
    "gamma": "scale",
    "kernel": "rbf",
    "max_iter": -1,
    "shrinking": True,
    "tol": 1e-3,
}
_SPACE: dict[str, Distribution] = {
    "C": Float(low=1e-2, high=1e3, log=True),
    # The library's default is a word, so the scale of the kernel is a list of values and not a range.
    "gamma": Categorical(choices=("scale", 1e-4, 1e-3, 3e-3, 0.01, 0.03, 0.1, 0.3, 1.0)),
}

SVM = Family(
    name="svm",
    variants={
        "classification": Variant(
            path="sklearn.svm.SVC",
            library={**_LIBRARY, "break_ties": False, "class_weight": None, "decision_function_shape": "ovr"},
            space={**_SPACE, "class_weight": Categorical(choices=(None, "balanced"))},
        ),
        "regression": Variant(
            path="sklearn.svm.SVR",
            library={**_LIBRARY, "epsilon": 0.1},
            space={**_SPACE, "epsilon": Float(low=1e-3, high=1.0, log=True)},
            system=(),
        ),
    },
    preprocessing="dense",
    cost=3.0,
    growth=2.0,
    probabilities=False,
    scale_target=True,  # epsilon and C are in units of the target
    aliases=("svc", "svr", "supportvectormachine", "supportvectormachines"),
    auto_rows=10_000,  # time grows with the square of the rows
)
