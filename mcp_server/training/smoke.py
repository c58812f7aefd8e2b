"""How long a trial will take, measured in a few seconds on a sample of the table."""

import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from statistics import fmean, median
from typing import TYPE_CHECKING

from pydantic import BaseModel, ConfigDict, Field

from mcp_server.errors import DataError
from mcp_server.training.estimators import AUTO, auto_families, default_params, family
from mcp_server.training.estimators._family import Family

if TYPE_CHECKING:
    from mcp_server.data.arrays import Arrays, Split
    from mcp_server.training.fitting import Array, Recipe

_SAMPLE_ROWS = 2_000
_SAMPLE_COLUMNS = 100
_SAMPLE_CLASSES = 10
_SAMPLE_CELLS = 100_000
_FEWEST_ROWS = 100
_PROBE = 0.1  # share of the rounds in the first, cheap measurement
_DRAW = 1.2  # random draws of the default spaces against the defaults: 1.2 times the seconds, between 0.6 and 1.6
_SPREAD = (0.7, 1.5)
_FIRST_GUESS_S = 0.05


class TimeEstimate(BaseModel):
    """Seconds of a trial, averaged over the trials of a study.

    `median` is for a study that spends as many trials on each family; `low` is for one that settles on the faster half,
    `high` for one that settles on the slower half. Pruning is not counted.
    """

    model_config = ConfigDict(frozen=True)

    median: float
    low: float
    high: float
    families: dict[str, float] = Field(description="Seconds of a trial of each family.")
    guessed: list[str] = Field(default_factory=list, description="Families too slow to measure, guessed from others.")


def estimate_seconds(
    folder: Path, estimators: Sequence[str], metric: str, *, seed: int = 0, threads: int = 1, budget_s: float = 5.0
) -> TimeEstimate:
    """How long a trial takes on average, from one default fit of each family on a sample of one fold.

    The sample has at most 2,000 rows, 100 columns, 10 classes and 100,000 cells, and is extrapolated by how each
    family's time grows. What does not fit the budget is guessed from what was measured, so that the answer comes in
    about `budget_s` whatever the table.

    Raises:
        InvalidRequestError: If an estimator or the metric is unknown or does not fit the table.
    """
    started = time.monotonic()
    from mcp_server.data.arrays import load_development
    from mcp_server.training.fitting import limited

    arrays = load_development(folder)
    names = _expanded(estimators, arrays)
    sample = _Sample.of(arrays, metric, seed, threads)
    with limited(threads):
        seconds, guessed = _by_family([family(name) for name in names], sample, started + budget_s)
    each = [seconds[name] for name in names]
    ordered = sorted(each)
    half = (len(ordered) + 1) // 2
    return TimeEstimate(
        median=fmean(each),
        low=_SPREAD[0] * fmean(ordered[:half]),
        high=_SPREAD[1] * fmean(ordered[-half:]),
        families=seconds,
        guessed=guessed,
    )


def _expanded(estimators: Sequence[str], arrays: "Arrays") -> list[str]:
    data = arrays.data
    names: list[str] = []
    for name in estimators:
        names += auto_families(data.task, data.n_rows, len(data.columns)) if name == AUTO else [family(name).name]
    return list(dict.fromkeys(names))


def _by_family(of: list[Family], sample: "_Sample", deadline: float) -> tuple[dict[str, float], list[str]]:
    """Seconds of a trial of each family, the cheapest measured first, and those that had to be guessed."""
    seconds: dict[str, float] = {}
    units: list[float] = []
    guessed: list[str] = []
    for each in sorted(of, key=sample.weight):
        unit = median(units) if units else _FIRST_GUESS_S
        taken = sample.measured(each, unit * sample.weight(each), deadline)
        if taken is None:
            taken = unit * sample.weight(each)
            guessed.append(each.name)
        else:
            units.append(taken / sample.weight(each))
        seconds[each.name] = taken * sample.factor(each)
    return {each.name: seconds[each.name] for each in of}, guessed


@dataclass(frozen=True, slots=True)
class _Sample:
    """A part of one fold, and how much larger the whole table is."""

    recipe: "Recipe"
    train: "Array"
    train_y: "Array"
    validation: "Array"
    more_rows: float
    more_columns: float
    more_classes: float
    n_splits: int

    @classmethod
    def of(cls, arrays: "Arrays", metric: str, seed: int, threads: int) -> "_Sample":
        import numpy as np

        from mcp_server.training.fitting import Recipe
        from mcp_server.training.metrics import resolve

        splits, data = arrays.splits(), arrays.data
        columns = data.columns[:_SAMPLE_COLUMNS]
        n_rows = fmean(len(train) for train, _ in splits)
        width = sum(max(1, min(30, len(column.categories))) for column in columns)
        wanted = min(_SAMPLE_ROWS, max(_FEWEST_ROWS, _SAMPLE_CELLS // width))
        train, validation = _rows(arrays, splits[-1], wanted, seed)
        y, n_classes = np.asarray(arrays.y[train]), len(data.classes)
        if n_classes:
            kept, y = np.unique(y, return_inverse=True)
            data = data.model_copy(update={"classes": data.classes[: len(kept)]})
        found = resolve(metric, data.task, n_classes)
        recipe = Recipe(data.model_copy(update={"columns": columns}), "", {}, (found,), seed, threads)
        return cls(
            recipe=recipe,
            train=np.asarray(arrays.X[train])[:, :_SAMPLE_COLUMNS],
            train_y=y,
            validation=np.asarray(arrays.X[validation])[:, :_SAMPLE_COLUMNS],
            more_rows=n_rows / len(train),
            more_columns=len(arrays.data.columns) / len(columns),
            more_classes=n_classes / len(data.classes) if n_classes else 1.0,
            n_splits=len(splits),
        )

    def weight(self, of: Family) -> float:
        """What a fit of the family takes on this sample, relative to others."""
        n_classes = self.recipe.n_classes
        return of.cost * (n_classes if of.cost_by_class and n_classes > 2 else 1)  # noqa: PLR2004 - two take one model

    def factor(self, of: Family) -> float:
        """How much longer a trial takes than one default fit on the sample."""
        classes = self.more_classes if of.cost_by_class else 1.0
        return _DRAW * self.n_splits * self.more_rows**of.growth * self.more_columns * classes

    def measured(self, of: Family, expected: float, deadline: float) -> float | None:
        """Seconds of a default fit on the sample, None when there is no time to measure it or it fails."""
        left = deadline - time.monotonic()
        rounds = default_params(of.name, self.recipe.data.task).get(of.rounds) if of.rounds else None
        if isinstance(rounds, int):
            fewer = max(1, int(rounds * _PROBE))
            if expected * _PROBE > left or (probe := self._seconds(of, {of.rounds or "": fewer})) is None:
                return None
            expected = probe * rounds / fewer
            if 2 * expected > deadline - time.monotonic():
                return expected
        elif expected > left:
            return None
        return self._seconds(of, {})

    def _seconds(self, of: Family, params: dict[str, int]) -> float | None:
        from mcp_server.training.fitting import Effort, measured
        from mcp_server.training.scoring import predict

        recipe = replace(self.recipe, family=of.name, params={**params})
        effort = Effort()
        try:
            pipeline = recipe.fitted(self.train, self.train_y, effort)
        except DataError:
            return None  # the study will say it, with the whole table at hand
        with measured(effort, "predict_seconds"):
            predict(pipeline, self.validation, recipe.metrics, recipe.n_classes)
        return effort.fit_seconds + effort.predict_seconds


def _rows(arrays: "Arrays", split: "Split", wanted: int, seed: int) -> "tuple[Array, Array]":
    """Rows of one fold to train and to validate on, in the fold's proportion; of many classes, some."""
    import numpy as np

    train, validation = split
    share = min(1.0, wanted / len(train))
    random = np.random.default_rng(seed)
    if arrays.data.classes:
        common = np.argsort(-np.bincount(arrays.y[train]), kind="stable")[:_SAMPLE_CLASSES]
        train = train[np.isin(arrays.y[train], common)]
    train = np.sort(random.permutation(train)[:wanted])
    return train, np.sort(random.permutation(validation)[: max(1, int(share * len(validation)))])
