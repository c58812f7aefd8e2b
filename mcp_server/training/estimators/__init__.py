"""Families of estimators: their names, parameters, default search spaces and pipelines."""

from mcp_server.training.estimators.catalog import AUTO, families, family, resolve_estimator
from mcp_server.training.estimators.choice import (
    ESTIMATOR,
    auto_families,
    baseline_params,
    default_params,
    fixed_params,
    merged_params,
    parameter_names,
    search_space,
    split_params,
    training_params,
)
from mcp_server.training.estimators.pipeline import build, check_params, model_class

__all__ = [
    "AUTO",
    "ESTIMATOR",
    "auto_families",
    "baseline_params",
    "build",
    "check_params",
    "default_params",
    "families",
    "family",
    "fixed_params",
    "merged_params",
    "model_class",
    "parameter_names",
    "resolve_estimator",
    "search_space",
    "split_params",
    "training_params",
]
