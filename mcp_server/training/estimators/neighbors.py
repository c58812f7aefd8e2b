"""Nearest neighbours."""

from mcp_server.distributions import Categorical, Distribution, Int
from mcp_server.training.estimators._family import Family, Variant
from mcp_server.types import Params

_LIBRARY: Params = {
    "algorithm": "auto",
    "leaf_size": 30,
    "metric": "minkowski",
    "n_neighbors": 5,
    "p": 2,
    "weights": "uniform",
}
_SPACE: dict[str, Distribution] = {
    "n_neighbors": Int(low=1, high=50, log=True),
    "weights": Categorical(choices=("uniform", "distance")),
    "p": Categorical(choices=(1, 2)),
}

KNN = Family(
    name="knn",
    variants={
        "classification": Variant(
            path="sklearn.neighbors.KNeighborsClassifier", library=_LIBRARY, space=_SPACE, system=("n_jobs",)
        ),
        "regression": Variant(
            path="sklearn.neighbors.KNeighborsRegressor", library=_LIBRARY, space=_SPACE, system=("n_jobs",)
        ),
    },
    preprocessing="dense",
    cost=2.0,
    growth=1.3,
    aliases=("kneighbors", "knearestneighbors", "nearestneighbors", "neighbors"),
    auto_rows=20_000,
    auto_columns=50,  # distances say little in many dimensions
    row_shares={"n_neighbors": 0.25},  # a fold must hold more rows than neighbours
)
