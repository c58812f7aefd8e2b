"""When a trial that cannot win is cut. A pruner is a model that builds Optuna's; adding one touches this file only."""

from typing import TYPE_CHECKING, Annotated, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field

if TYPE_CHECKING:
    from optuna.pruners import BasePruner


class _Pruner(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")

    def seen(self, value: float, running: float) -> float:
        """Which of a step's two numbers the pruner compares: the step's own value or the mean so far."""
        del value
        return running

    def build(self) -> "BasePruner":
        """Optuna's pruner with this configuration."""
        raise NotImplementedError


class Median(_Pruner):
    """Cuts a trial whose value is below the median of the others at the same step (Golovin et al. 2017)."""

    type: Literal["median"] = "median"
    n_startup_trials: int = Field(default=5, ge=0, le=10_000, description="Finished trials before the first cut.")
    n_warmup_steps: int = Field(default=1, ge=0, le=10_000, description="Steps of a trial before its first cut.")
    interval_steps: int = Field(default=1, ge=1, le=10_000, description="Steps between checks.")

    def build(self) -> "BasePruner":
        """Optuna's pruner."""
        from optuna.pruners import MedianPruner

        return MedianPruner(self.n_startup_trials, self.n_warmup_steps, self.interval_steps)


class Wilcoxon(_Pruner):
    """Cuts a trial when a signed-rank test on its folds says it is worse than the best (Wilcoxon 1945)."""

    type: Literal["wilcoxon"] = "wilcoxon"
    p_threshold: float = Field(default=0.1, gt=0, lt=1, description="Cut when the p-value is below this.")
    n_startup_steps: int = Field(default=2, ge=0, le=10_000, description="Folds before the first cut.")

    def seen(self, value: float, running: float) -> float:
        """The fold's own value: the test pairs folds."""
        del running
        return value

    def build(self) -> "BasePruner":
        """Optuna's pruner."""
        from optuna.pruners import WilcoxonPruner

        return WilcoxonPruner(p_threshold=self.p_threshold, n_startup_steps=self.n_startup_steps)


class NoPruner(_Pruner):
    """Lets every trial run to its end."""

    type: Literal["none"] = "none"

    def build(self) -> "BasePruner":
        """Optuna's pruner."""
        from optuna.pruners import NopPruner

        return NopPruner()


def _named(value: object) -> object:
    return {"type": value} if isinstance(value, str) else value


Pruner = Annotated[Median | Wilcoxon | NoPruner, Field(discriminator="type"), BeforeValidator(_named)]
