"""The objective of studies of a table: the mean validation score over folds that never change."""

from statistics import fmean, stdev

import numpy as np

from mcp_server.data.arrays import Arrays, load_development
from mcp_server.errors import DataError
from mcp_server.execution import TrialResult
from mcp_server.execution.trial import Trial, TrialPruned
from mcp_server.training.fitting import Array, Effort, Payload, Recipe, limited, measured
from mcp_server.training.scoring import evaluate, predict


def cross_validate(trial: Trial) -> TrialResult:
    """The mean score of the trial's estimator over the folds of the prepared table.

    Each fold fits the whole pipeline, preprocessing included, on its own training rows. After each fold the trial
    reports the fold's score and the mean so far, with the fold's number, from 0, as the step.

    Raises:
        InvalidRequestError: If the estimator, a parameter or the metric is unknown or does not fit the table.
        DataError: If the estimator cannot be fitted on a fold, or the metric is undefined there.
        TrialPruned: When the trial should stop.
    """
    payload = Payload.model_validate(dict(trial.payload))
    arrays = load_development(payload.folder)
    recipe = Recipe.of(payload, trial.params, arrays.data)
    effort, folds = Effort(), _Folds(recipe)
    splits = arrays.splits()
    with limited(recipe.threads):
        for number, (train, validation) in enumerate(splits, 1):
            folds.add(_fold_scores(recipe, arrays, train, validation, effort), number, len(splits))
            trial.report(folds.values[-1], number - 1, running=fmean(folds.values))
            if number < len(splits) and trial.should_prune():
                raise TrialPruned(f"stopped after fold {number} of {len(splits)}")
    return folds.score(effort)


class _Folds:
    """The scores of the folds so far."""

    def __init__(self, recipe: Recipe) -> None:
        self._names = [metric.name for metric in recipe.metrics]
        self._hint = "A class may be missing there: use fewer folds, or the metric accuracy."
        if not recipe.n_classes:
            self._hint = "The fold may be too small, or its numbers too large: use fewer folds, or the metric mae."
        self._scores: list[list[float]] = []

    @property
    def values(self) -> list[float]:
        return [scores[0] for scores in self._scores]

    def add(self, scores: list[float], number: int, n_folds: int) -> None:
        if not np.isfinite(scores[0]):
            raise DataError(f"{self._names[0]} is {scores[0]} on fold {number} of {n_folds}.", hint=self._hint)
        self._scores.append(scores)

    def score(self, effort: Effort) -> TrialResult:
        others = list(zip(*self._scores, strict=True))[1:]
        means = {name: fmean(scores) for name, scores in zip(self._names[1:], others, strict=True)}
        return TrialResult(
            value=fmean(self.values),
            std=stdev(self.values) if len(self.values) > 1 else None,
            folds=self.values,
            metrics={**{name: mean for name, mean in means.items() if np.isfinite(mean)}, **effort.metrics()},
        )


def _fold_scores(recipe: Recipe, arrays: Arrays, train: Array, validation: Array, effort: Effort) -> list[float]:
    pipeline = recipe.fitted(arrays.X[train], arrays.y[train], effort)
    with measured(effort, "predict_seconds"):
        predictions = predict(pipeline, arrays.X[validation], recipe.metrics, recipe.n_classes)
    y = arrays.y[validation]
    return [evaluate(metric, y, predictions, recipe.n_classes) for metric in recipe.metrics]
