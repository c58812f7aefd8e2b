"""Gradient boosted trees: on exact splits, and on binned columns."""

from mcp_server.distributions import Categorical, Distribution, Float, Int
from mcp_server.training.estimators._family import Family, Variant
from mcp_server.types import Params

_EXACT: Params = {
    "ccp_alpha": 0.0,
    "learning_rate": 0.1,
    "max_depth": 3,
    "max_features": None,
    "max_leaf_nodes": None,
    "min_impurity_decrease": 0.0,
    "min_samples_leaf": 1,
    "min_samples_split": 2,
    "min_weight_fraction_leaf": 0.0,
    "n_estimators": 100,
    "n_iter_no_change": None,
    "subsample": 1.0,
    "tol": 1e-4,
    "validation_fraction": 0.1,
}
_EXACT_SPACE: dict[str, Distribution] = {
    "n_estimators": Int(low=50, high=200, step=25),
    "learning_rate": Float(low=0.01, high=0.5, log=True),
    "max_depth": Int(low=1, high=6),
    "subsample": Float(low=0.5, high=1.0),
    "min_samples_leaf": Int(low=1, high=30, log=True),
}

GRADIENT_BOOSTING = Family(
    name="gradient_boosting",
    variants={
        "classification": Variant(
            path="sklearn.ensemble.GradientBoostingClassifier",
            library={**_EXACT, "loss": "log_loss"},
            space=_EXACT_SPACE,
        ),
        "regression": Variant(
            path="sklearn.ensemble.GradientBoostingRegressor",
            library={**_EXACT, "loss": "squared_error", "alpha": 0.9},
            space=_EXACT_SPACE,
        ),
    },
    preprocessing="imputed",
    cost=15.0,
    cost_by_class=True,
    growth=1.1,
    rounds="n_estimators",
    aliases=("gb", "gbm", "gbdt", "gbt"),
    auto_rows=5_000,  # above it, the binned one below finds the same in a tenth of the time
    auto_columns=50,
)

_BINNED: Params = {
    "early_stopping": "auto",
    "l2_regularization": 0.0,
    "learning_rate": 0.1,
    "max_bins": 255,
    "max_depth": None,
    "max_features": 1.0,
    "max_iter": 100,
    "max_leaf_nodes": 31,
    "min_samples_leaf": 20,
    "n_iter_no_change": 10,
    "scoring": "loss",
    "tol": 1e-7,
    "validation_fraction": 0.1,
}
_BINNED_SPACE: dict[str, Distribution] = {
    "learning_rate": Float(low=0.01, high=0.5, log=True),
    "max_iter": Int(low=50, high=200, step=25),
    "max_leaf_nodes": Int(low=4, high=64, log=True),
    "min_samples_leaf": Int(low=2, high=100, log=True),
    "l2_regularization": Categorical(choices=(0.0, 0.1, 1.0, 10.0)),
    "max_features": Float(low=0.3, high=1.0),
}

HIST_GRADIENT_BOOSTING = Family(
    name="hist_gradient_boosting",
    variants={
        "classification": Variant(
            path="sklearn.ensemble.HistGradientBoostingClassifier",
            library={**_BINNED, "loss": "log_loss", "class_weight": None},
            space=_BINNED_SPACE,
        ),
        "regression": Variant(
            path="sklearn.ensemble.HistGradientBoostingRegressor",
            library={**_BINNED, "loss": "squared_error", "quantile": None},
            space=_BINNED_SPACE,
        ),
    },
    preprocessing="native",
    cost=12.0,
    cost_by_class=True,
    rounds="max_iter",
    aliases=("hgb", "hgbt", "histgb", "histgbm", "histgbdt"),
)
