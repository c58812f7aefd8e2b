"""One fit: from what a study passes to its trials to a fitted pipeline, with the time and the warnings it took."""

import time
import warnings
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Self

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field, TypeAdapter

from mcp_server.data.spec import Column, PreparedData
from mcp_server.errors import DataError, InvalidRequestError
from mcp_server.training.estimators import build, split_params
from mcp_server.training.metrics import Metric, reported_metrics, resolve
from mcp_server.types import Params, Seed

if TYPE_CHECKING:
    from sklearn.pipeline import Pipeline

Array = NDArray[Any]

_params: TypeAdapter[Params] = TypeAdapter(Params)


class Payload(BaseModel):
    """What a study passes to each of its trials."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    folder: Path
    estimator: str
    metric: str
    fixed: Params = Field(default_factory=dict)
    seed: Seed = 0
    threads: Annotated[int, Field(ge=1)] = 1


@dataclass(slots=True)
class Effort:
    """What fitting and predicting took in all folds of a trial."""

    fit_seconds: float = 0.0
    predict_seconds: float = 0.0
    warnings: Counter[str] = field(default_factory=Counter)

    def metrics(self) -> dict[str, float]:
        """The same as numbers to keep beside a score; warnings by their category, where there were any."""
        counts = {f"warnings.{name}": float(count) for name, count in sorted(self.warnings.items())}
        return {"fit_seconds": self.fit_seconds, "predict_seconds": self.predict_seconds, **counts}


@dataclass(frozen=True, slots=True)
class Recipe:
    """A family with parameters, and the metrics to judge it by, for one table."""

    data: PreparedData
    family: str
    params: Params
    metrics: tuple[Metric, ...]
    seed: int
    threads: int

    @classmethod
    def of(cls, payload: Payload, params: Mapping[str, object], data: PreparedData) -> Self:
        """The recipe of one trial; what the study fixed goes before what its sampler chose.

        Raises:
            InvalidRequestError: If the estimator, a parameter or the metric is unknown or does not fit the table.
        """
        family, own = split_params(payload.estimator, _params.validate_python({**params, **payload.fixed}))
        metric = resolve(payload.metric, data.task, len(data.classes))
        return cls(data, family, own, reported_metrics(metric, len(data.classes)), payload.seed, payload.threads)

    @property
    def n_classes(self) -> int:
        """The number of classes, 0 when numbers are predicted."""
        return len(self.data.classes)

    def pipeline(self, columns: Sequence[Column], y: Array) -> "Pipeline":
        """A fresh pipeline, not fitted, for these columns and a target like `y`."""
        needs_probabilities = self.metrics[0].needed(self.n_classes) == "probabilities"
        return build(
            self.family,
            self.data.task,
            self.params,
            columns=columns,
            seed=self.seed,
            threads=self.threads,
            probabilities=needs_probabilities,
            n_rows=len(y),
            rarest=int(np.unique(y, return_counts=True)[1].min()) if self.n_classes else None,
        )

    def fitted(self, features: Array, y: Array, effort: Effort) -> "Pipeline":
        """A pipeline fitted on these rows; the time and the warnings go to `effort`.

        Raises:
            InvalidRequestError: If the estimator refuses the value of a parameter.
            DataError: If it cannot be fitted on these rows.
        """
        from sklearn.utils._param_validation import InvalidParameterError

        pipeline = self.pipeline(_usable(self.data.columns, features), y)
        with measured(effort, "fit_seconds"):
            try:
                pipeline.fit(features, y)
            except InvalidParameterError as exc:
                raise InvalidRequestError(f"{exc}", hint="Narrow the search space, or fix another value.") from exc
            except (ValueError, np.linalg.LinAlgError) as exc:
                raise DataError(f"{self.family} cannot be fitted on {len(y):,} rows: {exc}") from exc
        return pipeline


def _usable(columns: Sequence[Column], features: Array) -> list[Column]:
    """The columns, those that have no value in these rows as categories without any: no number can be learned there."""
    empty = np.asarray(np.isnan(features).all(axis=0))
    without = {"kind": "categorical", "categories": []}
    return [
        column.model_copy(update=without) if is_empty else column
        for column, is_empty in zip(columns, empty, strict=True)
    ]


@contextmanager
def limited(threads: int) -> Iterator[None]:
    """Keep the numerical libraries to this many threads, whatever the environment of the process says.

    Two processes with two OpenMP threads each on two cores take 30 times as long as with one thread each.
    """
    from threadpoolctl import threadpool_limits  # type: ignore[import-untyped]

    import_module("mcp_server.training.preload")  # a library that is loaded later would not be limited
    with threadpool_limits(limits=threads):
        yield


@contextmanager
def measured(effort: Effort, name: str) -> Iterator[None]:
    """Add the seconds of the block to a field of `effort`, and count its warnings in place of showing them."""
    start = time.perf_counter()
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        # The encoder is told to take categories that a fold has not seen.
        warnings.filterwarnings("ignore", message="Found unknown categories", category=UserWarning)
        try:
            yield
        finally:
            setattr(effort, name, getattr(effort, name) + time.perf_counter() - start)
            effort.warnings.update(warning.category.__name__ for warning in caught)
