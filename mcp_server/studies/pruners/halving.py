"""Pruners that give few trials many steps: successive halving and Hyperband.

Steps count from 0, so a rung at step 1 is judged when a trial has reported twice.
"""

from collections.abc import Mapping
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any, Literal

from pydantic import Field

from mcp_server.errors import InvalidRequestError
from mcp_server.studies.pruners._base import PrunerModel, direction_of, last_step, number

if TYPE_CHECKING:
    from optuna import Study
    from optuna.pruners import BasePruner
    from optuna.trial import FrozenTrial

_RUNG = "completed_rung_"  # what Optuna notes with a trial for each rung that it reached, and its value there


class _Halving(PrunerModel):
    min_resource: int = Field(default=1, ge=1, le=100_000, description="Step of the first rung.")
    reduction_factor: int = Field(default=3, ge=2, le=100, description="One in so many goes on at each rung.")

    def notes(self, pruner: "BasePruner", study: "Study", trial: int, reports: Mapping[int, float]) -> dict[str, float]:
        """The value of the trial at each rung that it reached: its first report at or behind the rung's step."""
        noted: dict[str, float] = {}
        rung_step = self.min_resource * self.reduction_factor ** self._late_by(pruner, study, trial)
        while behind := [step for step in reports if step >= rung_step]:
            noted[f"{_RUNG}{len(noted)}"] = reports[min(behind)]
            rung_step *= self.reduction_factor
        return noted

    def _late_by(self, pruner: "BasePruner", study: "Study", trial: int) -> int:
        """How many rungs are left out at the start."""
        del pruner, study, trial
        return 0

    def reason(self, study: "Study", trial: "FrozenTrial") -> str:
        """The trial's value at its last rung, and what it took to go on from there."""
        reached = [int(key.removeprefix(_RUNG)) for key in trial.system_attrs if key.startswith(_RUNG)]
        rung = max(reached)
        noted = (t.system_attrs.get(f"{_RUNG}{rung}") for t in self._rivals(study, trial))
        rivals = sorted((value for value in noted if value is not None), reverse=direction_of(study) == "maximize")
        going_on = max(len(rivals) // self.reduction_factor, 1)
        value = number(trial.intermediate_values[last_step(trial)])
        return (
            f"{value} is not among the best {going_on} of {len(rivals)} trials at rung {rung}, "
            f"which takes {number(rivals[going_on - 1])}"
        )

    def _rivals(self, study: "Study", trial: "FrozenTrial") -> "list[FrozenTrial]":
        del trial
        return study.get_trials(deepcopy=False)


class SuccessiveHalving(_Halving):
    """Lets one in `reduction_factor` trials go on at each rung, asynchronously (Li et al. 2020, ASHA)."""

    type: Literal["successive_halving"] = "successive_halving"

    def build(self, n_steps: int | None) -> "BasePruner":
        """Optuna's pruner."""
        del n_steps
        from optuna.pruners import SuccessiveHalvingPruner

        return SuccessiveHalvingPruner(min_resource=self.min_resource, reduction_factor=self.reduction_factor)


class Hyperband(_Halving):
    """Successive halving in brackets that begin to cut at different steps (Li et al. 2018)."""

    type: Literal["hyperband"] = "hyperband"
    max_resource: int | None = Field(
        default=None, ge=1, le=100_000, description="Steps of a whole trial; the folds of a table when omitted."
    )

    def check(self, n_steps: int | None) -> None:
        """Refuse to guess how long a trial is, and a first rung behind its end."""
        steps = self.max_resource or n_steps
        if steps is None:
            raise InvalidRequestError(
                "hyperband has to know how many steps a whole trial reports.",
                hint='For example pruner={"type": "hyperband", "max_resource": 27}.',
            )
        if self.min_resource > steps:
            raise InvalidRequestError(
                f"min_resource {self.min_resource} > max_resource {steps}.", hint="The first rung must lie in a trial."
            )

    def build(self, n_steps: int | None) -> "BasePruner":
        """Optuna's pruner."""
        from optuna.pruners import HyperbandPruner

        return HyperbandPruner(
            min_resource=self.min_resource,
            max_resource=self.max_resource or n_steps or "auto",
            reduction_factor=self.reduction_factor,
        )

    def _late_by(self, pruner: "BasePruner", study: "Study", trial: int) -> int:
        """The bracket of the trial."""
        return _bracket(pruner, study, trial)

    def _rivals(self, study: "Study", trial: "FrozenTrial") -> "list[FrozenTrial]":
        """The trials of the same bracket."""
        own = _bracket(study.pruner, study, trial.number)
        return [t for t in study.get_trials(deepcopy=False) if _bracket(study.pruner, study, t.number) == own]


def _bracket(pruner: Any, study: "Study", trial: int) -> int:  # noqa: ANN401 - nothing public of Optuna's tells it
    if not pruner._pruners:  # noqa: SLF001 - it divides its brackets when it is asked the first time
        pruner._try_initialization(study)  # noqa: SLF001 - as above
    return int(pruner._get_bracket_id(study, SimpleNamespace(number=trial)))  # noqa: SLF001 - as above
