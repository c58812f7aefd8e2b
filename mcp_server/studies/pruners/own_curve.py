"""Pruners that look at a trial's own values first."""

from typing import TYPE_CHECKING, Literal, Self

from pydantic import Field, model_validator

from mcp_server.studies.pruners._base import PrunerModel, best_so_far, direction_of, last_step, number
from mcp_server.studies.pruners.percentile import Median, Percentile

if TYPE_CHECKING:
    from optuna import Study
    from optuna.pruners import BasePruner
    from optuna.trial import FrozenTrial

# Only pruners that note nothing: what they would have noted when nobody asked them is lost with the process.
_INNER: dict[str, type[PrunerModel]] = {"median": Median, "percentile": Percentile}


class Threshold(PrunerModel):
    """Cuts a trial whose value leaves fixed bounds, such as a loss that explodes."""

    type: Literal["threshold"] = "threshold"
    lower: float | None = Field(default=None, allow_inf_nan=False, description="Cut below this.")
    upper: float | None = Field(default=None, allow_inf_nan=False, description="Cut above this.")
    n_warmup_steps: int = Field(default=0, ge=0, le=10_000, description="Steps of a trial before its first cut.")
    interval_steps: int = Field(default=1, ge=1, le=10_000, description="Steps between checks.")

    @model_validator(mode="after")
    def _bounded(self) -> Self:
        if self.lower is None and self.upper is None:
            raise ValueError("threshold needs lower, upper or both")
        if self.lower is not None and self.upper is not None and self.lower >= self.upper:
            raise ValueError(f"lower {self.lower:g} must be below upper {self.upper:g}")
        return self

    def build(self, n_steps: int | None) -> "BasePruner":
        """Optuna's pruner."""
        del n_steps
        from optuna.pruners import ThresholdPruner

        return ThresholdPruner(self.lower, self.upper, self.n_warmup_steps, self.interval_steps)

    def reason(self, study: "Study", trial: "FrozenTrial") -> str:
        """The value, and the bound that it passed."""
        del study
        value = trial.intermediate_values[last_step(trial)]
        if self.upper is not None and value > self.upper:
            return f"{number(value)} above the upper threshold {number(self.upper)}"
        assert self.lower is not None  # noqa: S101 - one of the two was passed
        return f"{number(value)} below the lower threshold {number(self.lower)}"


class Patient(PrunerModel):
    """Cuts a trial that has not improved for `patience` steps, if `wrapped` with its defaults would cut it, too."""

    type: Literal["patient"] = "patient"
    patience: int = Field(default=3, ge=0, le=10_000, description="Steps without improvement before a cut.")
    min_delta: float = Field(default=0.0, ge=0, allow_inf_nan=False, description="A smaller gain is no improvement.")
    wrapped: Literal["median", "percentile"] | None = Field(default=None, description="Pruner that has to agree.")

    @property
    def _inner(self) -> PrunerModel | None:
        return _INNER[self.wrapped]() if self.wrapped is not None else None

    def build(self, n_steps: int | None) -> "BasePruner":
        """Optuna's pruner."""
        from optuna.pruners import PatientPruner

        inner = self._inner
        return PatientPruner(inner.build(n_steps) if inner else None, self.patience, self.min_delta)

    def reason(self, study: "Study", trial: "FrozenTrial") -> str:
        """How long there was no gain, and what the wrapped pruner says."""
        best = best_so_far(trial, direction_of(study))
        since = last_step(trial) - next(step for step, value in trial.intermediate_values.items() if value == best)
        inner = self._inner
        return f"no gain over {number(best)} for {since} steps" + (
            f"; {inner.reason(study, trial)}" if inner is not None else ""
        )
