"""Multilayer perceptrons."""

import re

from mcp_server.distributions import Categorical, Distribution, Float
from mcp_server.errors import InvalidRequestError
from mcp_server.training.estimators._family import Family, Variant
from mcp_server.types import Params, shown

_LIBRARY: Params = {
    "activation": "relu",
    "alpha": 1e-4,
    "batch_size": "auto",
    "beta_1": 0.9,
    "beta_2": 0.999,
    "early_stopping": False,
    "epsilon": 1e-8,
    "hidden_layer_sizes": "100",
    "learning_rate": "constant",
    "learning_rate_init": 1e-3,
    "max_fun": 15000,
    "max_iter": 200,
    "momentum": 0.9,
    "n_iter_no_change": 10,
    "nesterovs_momentum": True,
    "power_t": 0.5,
    "shuffle": True,
    "solver": "adam",
    "tol": 1e-4,
    "validation_fraction": 0.1,
}
_SPACE: dict[str, Distribution] = {
    "hidden_layer_sizes": Categorical(choices=("50", "100", "200", "50,50", "100,50")),
    "activation": Categorical(choices=("relu", "tanh")),
    "alpha": Float(low=1e-6, high=1.0, log=True),
    "learning_rate_init": Float(low=1e-4, high=0.1, log=True),
}
# Half the library's epochs: a third to a half of the time, and within the noise of the same score on small tables.
# Early stopping saves more, but doubles to quadruples the log loss there: its tenth of the rows is too noisy a judge.
_OURS: Params = {"max_iter": 100}
_LAYERS = re.compile(r"\s*\d{1,6}(\s*,\s*\d{1,6})*\s*,?\s*")


def _with_layers(params: Params) -> dict[str, object]:
    """The parameters with layer sizes, which travel as the text `100,50`, as a tuple."""
    converted: dict[str, object] = {**params}
    if (sizes := params.get("hidden_layer_sizes")) is not None:
        if not _LAYERS.fullmatch(str(sizes)):
            raise InvalidRequestError(
                f"hidden_layer_sizes is {shown(sizes)!r}.", hint='Write the width of each layer, such as "100,50".'
            )
        converted["hidden_layer_sizes"] = tuple(int(size) for size in str(sizes).split(",") if size.strip())
    return converted


MLP = Family(
    name="mlp",
    variants={
        "classification": Variant(
            path="sklearn.neural_network.MLPClassifier",
            library={**_LIBRARY},
            space=_SPACE,
            ours=_OURS,
        ),
        "regression": Variant(
            path="sklearn.neural_network.MLPRegressor",
            library={**_LIBRARY, "loss": "squared_error"},
            space=_SPACE,
            ours=_OURS,
        ),
    },
    preprocessing="dense",
    cost=20.0,
    rounds="max_iter",
    aliases=("neuralnetwork", "neuralnet", "multilayerperceptron", "perceptron"),
    scale_target=True,  # gradients are in units of the target
    auto_rows=50_000,
    convert=_with_layers,
)
