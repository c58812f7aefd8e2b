"""The one honest number: the winner, fitted on all development rows, on rows that the search never saw."""

from collections.abc import Iterator
from typing import TYPE_CHECKING

import numpy as np

from mcp_server.data.arrays import load_development
from mcp_server.data.sealed import load_sealed
from mcp_server.errors import DataError
from mcp_server.execution import TrialResult
from mcp_server.execution.trial import Trial
from mcp_server.training.fitting import Array, Effort, Payload, Recipe, limited, measured
from mcp_server.training.metrics import Metric
from mcp_server.training.scoring import Predictions, evaluate, predict, score

if TYPE_CHECKING:
    from sklearn.base import BaseEstimator

RESAMPLES = 1000
_CENTRAL = (2.5, 97.5)
_LEAST_DEFINED = 0.9


def final_test(trial: Trial) -> TrialResult:
    """The trial's estimator, fitted on all development rows, scored on the sealed rows.

    The metrics beside the value: `low` and `high`, a 95 % interval for the noise of the test rows alone (percentile
    bootstrap, Efron and Tibshirani, An Introduction to the Bootstrap, 1993, chapter 13), and `dummy`, the score of a
    model that ignores the features. The sealed rows are read once.

    Raises:
        InvalidRequestError: If the estimator, a parameter or the metric is unknown or does not fit the table.
        DataError: If no rows are sealed, the estimator cannot be fitted, or the metric is undefined on the sealed rows.
    """
    payload = Payload.model_validate(dict(trial.payload))
    arrays = load_development(payload.folder)
    recipe = Recipe.of(payload, trial.params, arrays.data)
    effort = Effort()
    with limited(recipe.threads):
        pipeline = recipe.fitted(arrays.X, arrays.y, effort)
        dummy = _dummy(recipe).fit(arrays.X, arrays.y)
        sealed, y = load_sealed(payload.folder)
        with measured(effort, "predict_seconds"):
            predictions = predict(pipeline, sealed, recipe.metrics, recipe.n_classes)
    metrics = {metric.name: evaluate(metric, y, predictions, recipe.n_classes) for metric in recipe.metrics}
    metric = recipe.metrics[0]
    value = metrics.pop(metric.name)
    if not np.isfinite(value):
        raise DataError(f"{metric.name} is {value} on the {len(y):,} sealed rows.", hint="Seal more rows: test_size.")
    metrics["dummy"] = score(metric, dummy, sealed, y, recipe.n_classes)
    metrics |= {**_interval(metric, np.asarray(y), predictions, recipe), **effort.metrics()}
    return TrialResult(value, metrics={name: number for name, number in metrics.items() if np.isfinite(number)})


def _interval(metric: Metric, y: Array, predictions: Predictions, recipe: Recipe) -> dict[str, float]:
    values = np.fromiter(_resampled(metric, y, predictions, recipe), dtype=float)
    defined = values[np.isfinite(values)]
    if len(defined) < _LEAST_DEFINED * RESAMPLES:
        return {}  # too few rows of a class to say
    low, high = np.percentile(defined, _CENTRAL)
    return {"low": float(low), "high": float(high)}


def _resampled(metric: Metric, y: Array, predictions: Predictions, recipe: Recipe) -> Iterator[float]:
    from sklearn import config_context

    random = np.random.default_rng(recipe.seed)
    with config_context(assume_finite=True, skip_parameter_validation=True):  # the first evaluation has validated
        for _ in range(RESAMPLES):
            rows = random.integers(len(y), size=len(y))
            yield evaluate(metric, y[rows], predictions.take(rows), recipe.n_classes)


def _dummy(recipe: Recipe) -> "BaseEstimator":
    from sklearn.dummy import DummyClassifier, DummyRegressor
    from sklearn.pipeline import Pipeline

    model = DummyClassifier(strategy="prior") if recipe.n_classes else DummyRegressor(strategy=_centre(recipe))
    return Pipeline([("preprocessing", "passthrough"), ("model", model)])


def _centre(recipe: Recipe) -> str:
    """The constant that is best for the metric: absolute errors are smallest around the median."""
    return "median" if recipe.metrics[0].name in {"mae", "median_ae", "mape"} else "mean"
