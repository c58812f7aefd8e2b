"""From a family and parameters to a scikit-learn pipeline that learns everything inside the fold it is fitted on."""

from collections.abc import Sequence
from difflib import get_close_matches
from importlib import import_module
from typing import TYPE_CHECKING, Any

from mcp_server.data.spec import Column
from mcp_server.errors import InvalidRequestError
from mcp_server.training.estimators._family import Family
from mcp_server.training.estimators.catalog import family, variant
from mcp_server.training.estimators.choice import fixed_params, merged_params
from mcp_server.types import Params, Task, shown

if TYPE_CHECKING:
    from sklearn.base import BaseEstimator
    from sklearn.pipeline import Pipeline

MAX_CATEGORIES = 30
_NATIVE_CATEGORIES = 255  # HistGradientBoosting bins categories into a byte
_MISSING_CODE = -1.0
_CALIBRATION_FOLDS = 3


def build(
    estimator: str,
    task: Task,
    params: Params,
    *,
    columns: Sequence[Column],
    seed: int = 0,
    threads: int = 1,
    probabilities: bool = False,
    n_rows: int | None = None,
    rarest: int | None = None,
) -> "Pipeline":
    """An unfitted pipeline of preprocessing and model for arrays with these columns.

    Parameters that are not in `params` have their defaults. With `probabilities`, a classifier that predicts none is
    calibrated by a sigmoid over its decision values (Platt, Probabilistic Outputs for Support Vector Machines, 1999).

    Args:
        estimator: The family.
        task: What it predicts.
        params: What was chosen.
        columns: The columns of the arrays.
        seed: The random state.
        threads: How many threads a fit may use.
        probabilities: Whether a classifier must predict them.
        n_rows: How many rows it will be fitted on, when that is known: no parameter counts more of them.
        rarest: How many of them the smallest class has, when that is known: calibration takes no more folds.

    Raises:
        InvalidRequestError: If there is no such family, it serves the other task only, or it lacks a parameter.
    """
    from sklearn.pipeline import Pipeline

    of = family(estimator)
    check_params(of.name, task, params)
    chosen = merged_params(variant(of, task).defaults, params, fixed_params(of.name, task, seed=seed, threads=threads))
    arguments = _within(of.convert(chosen), of, n_rows)
    if of.preprocessing == "native":
        arguments["categorical_features"] = [_native(column) for column in columns]
    model = model_class(of.name, task)(**arguments)
    if task == "regression" and of.scale_target:
        model = _on_scaled_target(model)
    if task == "classification" and probabilities and not of.probabilities:
        model = _calibrated(model, _CALIBRATION_FOLDS if rarest is None else max(2, min(_CALIBRATION_FOLDS, rarest)))
    return Pipeline([("preprocessing", _preprocessing(of, columns)), ("model", model)])


def check_params(estimator: str, task: Task, params: Params) -> None:
    """Nothing, when the family has all these parameters.

    Raises:
        InvalidRequestError: If it lacks one; near names are given.
    """
    of = family(estimator)
    found = variant(of, task)
    for name in params:
        if name in found.library:
            continue
        if name in found.system or name in {"random_state", "n_jobs"}:
            raise InvalidRequestError(
                f"{name} is set by the study.", hint="Use seed for the random state and parallel for the trials."
            )
        near = get_close_matches(name, found.library, 3, cutoff=0.5)
        hint = f"Did you mean {' or '.join(near)}?" if near else f"Known: {', '.join(sorted(found.library))}."
        raise InvalidRequestError(f"{of.name} has no parameter {shown(name)!r}.", hint=hint)


def model_class(estimator: str, task: Task) -> "type[BaseEstimator]":
    """The scikit-learn class behind a family.

    Raises:
        InvalidRequestError: If there is no such family, or it serves the other task only.
    """
    module, _, name = variant(family(estimator), task).path.rpartition(".")
    return getattr(import_module(module), name)


def _native(column: Column) -> bool:
    return column.kind == "categorical" and len(column.categories) <= _NATIVE_CATEGORIES


def _preprocessing(of: Family, columns: Sequence[Column]) -> "Any":  # noqa: ANN401 - scikit-learn has no types
    if of.preprocessing in {"codes", "native"}:
        return "passthrough"
    categorical = [i for i, column in enumerate(columns) if column.kind == "categorical"]
    numeric = [i for i, column in enumerate(columns) if column.kind != "categorical"]
    dense = of.preprocessing == "dense"
    return _by_column(
        numeric, _scaled() if dense else _imputed(), categorical, _one_hot() if dense else _marked_missing()
    )


def _by_column(numeric: list[int], numbers: "Any", categorical: list[int], categories: "Any") -> "Any":  # noqa: ANN401 - scikit-learn has no types
    from sklearn.compose import ColumnTransformer

    parts = [("numbers", numbers, numeric), ("categories", categories, categorical)]
    return ColumnTransformer([part for part in parts if part[2]], sparse_threshold=0)


def _imputed() -> "BaseEstimator":
    from sklearn.impute import SimpleImputer

    return SimpleImputer(strategy="median", add_indicator=True, keep_empty_features=True)


def _scaled() -> "Pipeline":
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    return make_pipeline(_imputed(), StandardScaler())


def _marked_missing() -> "BaseEstimator":
    from sklearn.impute import SimpleImputer

    return SimpleImputer(strategy="constant", fill_value=_MISSING_CODE, keep_empty_features=True)


def _one_hot() -> "BaseEstimator":
    """Missing is a category of its own; rare and unknown ones share a column."""
    from sklearn.preprocessing import OneHotEncoder

    return OneHotEncoder(
        handle_unknown="infrequent_if_exist", max_categories=MAX_CATEGORIES, drop="if_binary", sparse_output=False
    )


def _on_scaled_target(model: "BaseEstimator") -> "BaseEstimator":
    from sklearn.compose import TransformedTargetRegressor
    from sklearn.preprocessing import StandardScaler

    return TransformedTargetRegressor(model, transformer=StandardScaler())


def _within(arguments: dict[str, object], of: Family, n_rows: int | None) -> dict[str, object]:
    """The arguments, those that count rows no larger than there are rows."""
    counts = {name: value for name in of.row_shares if isinstance(value := arguments.get(name), int)}
    return arguments if n_rows is None else arguments | {name: min(value, n_rows) for name, value in counts.items()}


def _calibrated(model: "BaseEstimator", folds: int) -> "BaseEstimator":
    from sklearn.calibration import CalibratedClassifierCV

    return CalibratedClassifierCV(model, ensemble=False, cv=folds)
