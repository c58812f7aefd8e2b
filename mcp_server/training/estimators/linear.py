"""Linear models: logistic regression for classes, ridge and lasso for numbers."""

from mcp_server.distributions import Categorical, Float
from mcp_server.training.estimators._family import Family, Variant

LOGISTIC_REGRESSION = Family(
    name="logistic_regression",
    variants={
        "classification": Variant(
            path="sklearn.linear_model.LogisticRegression",
            library={
                "C": 1.0,
                "class_weight": None,
                "dual": False,
                "fit_intercept": True,
                "intercept_scaling": 1,
                "l1_ratio": 0.0,
                "max_iter": 100,
                "solver": "lbfgs",
                "tol": 1e-4,
            },
            space={
                "C": Float(low=1e-4, high=1e3, log=True),
                "class_weight": Categorical(choices=(None, "balanced")),
            },
            # The library's 100 iterations end before the optimum when C is large.
            ours={"max_iter": 1000},
        )
    },
    preprocessing="dense",
    cost=1.0,
    cost_by_class=True,
    aliases=("logistic", "logreg", "logit", "lr"),
)

RIDGE = Family(
    name="ridge",
    variants={
        "regression": Variant(
            path="sklearn.linear_model.Ridge",
            library={
                "alpha": 1.0,
                "fit_intercept": True,
                "max_iter": None,
                "positive": False,
                "solver": "auto",
                "tol": 1e-4,
            },
            space={"alpha": Float(low=1e-3, high=1e4, log=True), "fit_intercept": Categorical(choices=(True, False))},
        )
    },
    preprocessing="dense",
    cost=1.0,
    aliases=("ridgeregression", "linear", "linearregression", "ols"),
)

LASSO = Family(
    name="lasso",
    variants={
        "regression": Variant(
            path="sklearn.linear_model.Lasso",
            library={
                "alpha": 1.0,
                "fit_intercept": True,
                "max_iter": 1000,
                "positive": False,
                "selection": "cyclic",
                "tol": 1e-4,
            },
            space={
                # In units of the target, which is not scaled: alpha=1.0 then means what it means in the library.
                "alpha": Float(low=1e-4, high=1e4, log=True),
                "selection": Categorical(choices=("cyclic", "random")),
            },
        )
    },
    preprocessing="dense",
    cost=1.0,
    aliases=("lassoregression", "l1"),
)
