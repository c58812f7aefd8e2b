"""Pruners that compare a trial with the others at the same step."""

from typing import TYPE_CHECKING, Literal

from pydantic import Field

from mcp_server.studies.pruners._base import PrunerModel, best_so_far, direction_of, last_step, number, worse

if TYPE_CHECKING:
    from optuna import Study
    from optuna.pruners import BasePruner
    from optuna.trial import FrozenTrial


class _AgainstOthers(PrunerModel):
    n_startup_trials: int = Field(default=5, ge=0, le=10_000, description="Completed trials before the first cut.")
    n_warmup_steps: int = Field(default=1, ge=0, le=10_000, description="Steps of a trial before its first cut.")
    interval_steps: int = Field(default=1, ge=1, le=10_000, description="Steps between checks.")

    @property
    def _kept(self) -> float:
        """Percent of the trials that go on."""
        raise NotImplementedError

    @property
    def _mark(self) -> str:
        raise NotImplementedError

    def build(self, n_steps: int | None) -> "BasePruner":
        """Optuna's pruner."""
        del n_steps
        from optuna.pruners import PercentilePruner

        return PercentilePruner(self._kept, self.n_startup_trials, self.n_warmup_steps, self.interval_steps)

    def reason(self, study: "Study", trial: "FrozenTrial") -> str:
        """The trial's best value so far, and the mark that the completed trials set at this step."""
        import numpy as np
        from optuna.trial import TrialState

        step, direction = last_step(trial), direction_of(study)
        complete = study.get_trials(deepcopy=False, states=(TrialState.COMPLETE,))
        others = [t.intermediate_values[step] for t in complete if step in t.intermediate_values]
        mark = float(np.percentile(others, self._kept if direction == "minimize" else 100 - self._kept))
        best = number(best_so_far(trial, direction))
        return f"{best} {worse(direction)} the {self._mark} {number(mark)} of {len(others)} trials"


class Median(_AgainstOthers):
    """Cuts a trial whose best value is worse than the median of the others at the same step (Golovin et al. 2017)."""

    type: Literal["median"] = "median"

    @property
    def _kept(self) -> float:
        return 50.0

    @property
    def _mark(self) -> str:
        return "median"


class Percentile(_AgainstOthers):
    """Keeps the best `percentile` percent of the trials at each step, and cuts the others."""

    type: Literal["percentile"] = "percentile"
    percentile: float = Field(default=25.0, gt=0, lt=100, description="Percent of the trials that go on.")

    @property
    def _kept(self) -> float:
        return self.percentile

    @property
    def _mark(self) -> str:
        return f"best {self.percentile:g} % mark"
