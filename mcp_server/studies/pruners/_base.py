"""What every pruner model offers the runner."""

from collections.abc import Mapping
from typing import TYPE_CHECKING

from pydantic import BaseModel, ConfigDict

from mcp_server.types import Direction

if TYPE_CHECKING:
    from optuna import Study
    from optuna.pruners import BasePruner
    from optuna.trial import FrozenTrial


class PrunerModel(BaseModel):
    """When a trial that cannot win is cut, as a caller writes it."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    def seen(self, value: float, running: float) -> float:
        """Which of a step's two numbers the pruner compares: the step's own value or the mean so far."""
        del value
        return running

    def check(self, n_steps: int | None) -> None:
        """Refuse a study whose trials report `n_steps` values, None when nobody knows.

        Raises:
            InvalidRequestError: With what is missing.
        """
        del n_steps

    def build(self, n_steps: int | None) -> "BasePruner":
        """Optuna's pruner with this configuration, for trials that report `n_steps` values."""
        raise NotImplementedError

    def notes(self, pruner: "BasePruner", study: "Study", trial: int, reports: Mapping[int, float]) -> dict[str, float]:
        """What Optuna's `pruner` had noted with the trial of this number when it had reported this."""
        del pruner, study, trial, reports
        return {}

    def reason(self, study: "Study", trial: "FrozenTrial") -> str:
        """Why the pruner cut `trial` at its last step, with the numbers that it compared."""
        raise NotImplementedError


def number(value: float) -> str:
    """A value as an explanation shows it."""
    return f"{value + 0.0:.5g}"  # without the sign of -0


def worse(direction: Direction) -> str:
    """The side of a bad value."""
    return "below" if direction == "maximize" else "above"


def direction_of(study: "Study") -> Direction:
    """The study's direction in our words."""
    from optuna.study import StudyDirection

    return "maximize" if study.direction == StudyDirection.MAXIMIZE else "minimize"


def best_so_far(trial: "FrozenTrial", direction: Direction) -> float:
    """The best value that the trial reported."""
    return (max if direction == "maximize" else min)(trial.intermediate_values.values())


def last_step(trial: "FrozenTrial") -> int:
    """The step at which the trial is judged: its latest."""
    return max(trial.intermediate_values)
