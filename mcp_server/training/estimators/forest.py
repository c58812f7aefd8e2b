"""Forests of randomised trees."""

from mcp_server.distributions import Categorical, Distribution, Int
from mcp_server.training.estimators._family import Family, Variant
from mcp_server.types import Params

_LIBRARY: Params = {
    "ccp_alpha": 0.0,
    "max_depth": None,
    "max_leaf_nodes": None,
    "max_samples": None,
    "min_impurity_decrease": 0.0,
    "min_samples_leaf": 1,
    "min_samples_split": 2,
    "min_weight_fraction_leaf": 0.0,
    "n_estimators": 100,
    "oob_score": False,
}
_CLASSIFIER: Params = {**_LIBRARY, "criterion": "gini", "max_features": "sqrt", "class_weight": None}
_REGRESSOR: Params = {**_LIBRARY, "criterion": "squared_error", "max_features": 1.0}

_SPACE: dict[str, Distribution] = {
    # More trees never hurt the score, only the time: a narrow range around the default.
    "n_estimators": Int(low=50, high=200, step=50),
    "max_features": Categorical(choices=("sqrt", 0.3, 0.5, 0.7, 1.0)),
    "min_samples_leaf": Int(low=1, high=30, log=True),
    "max_depth": Categorical(choices=(None, 4, 8, 16)),
}
_CLASSIFIER_SPACE: dict[str, Distribution] = {
    **_SPACE,
    "class_weight": Categorical(choices=(None, "balanced")),
}

RANDOM_FOREST = Family(
    name="random_forest",
    variants={
        "classification": Variant(
            path="sklearn.ensemble.RandomForestClassifier",
            library={**_CLASSIFIER, "bootstrap": True},
            space=_CLASSIFIER_SPACE,
            system=("random_state", "n_jobs"),
        ),
        "regression": Variant(
            path="sklearn.ensemble.RandomForestRegressor",
            library={**_REGRESSOR, "bootstrap": True},
            space=_SPACE,
            system=("random_state", "n_jobs"),
        ),
    },
    preprocessing="codes",
    cost=12.0,
    growth=1.1,
    rounds="n_estimators",
    aliases=("rf", "forest", "randomforests"),
)

EXTRA_TREES = Family(
    name="extra_trees",
    variants={
        "classification": Variant(
            path="sklearn.ensemble.ExtraTreesClassifier",
            library={**_CLASSIFIER, "bootstrap": False},
            space=_CLASSIFIER_SPACE,
            system=("random_state", "n_jobs"),
        ),
        "regression": Variant(
            path="sklearn.ensemble.ExtraTreesRegressor",
            library={**_REGRESSOR, "bootstrap": False},
            space=_SPACE,
            system=("random_state", "n_jobs"),
        ),
    },
    preprocessing="codes",
    cost=9.0,
    growth=1.1,
    rounds="n_estimators",
    aliases=("et", "extratree", "extremelyrandomizedtrees"),
)
