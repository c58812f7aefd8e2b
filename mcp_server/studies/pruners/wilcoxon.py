"""Pruning by a test of folds."""

from typing import TYPE_CHECKING, Literal

from pydantic import Field

from mcp_server.studies.pruners._base import PrunerModel, direction_of, number

if TYPE_CHECKING:
    from optuna import Study
    from optuna.pruners import BasePruner
    from optuna.trial import FrozenTrial


class Wilcoxon(PrunerModel):
    """Cuts a trial when a signed-rank test on its folds says it is worse than the best (Wilcoxon 1945)."""

    type: Literal["wilcoxon"] = "wilcoxon"
    p_threshold: float = Field(default=0.1, gt=0, lt=1, description="Cut when the p-value is below this.")
    n_startup_steps: int = Field(default=2, ge=0, le=10_000, description="Folds before the first cut.")

    def seen(self, value: float, running: float) -> float:
        """The fold's own value: the test pairs folds."""
        del running
        return value

    def build(self, n_steps: int | None) -> "BasePruner":
        """Optuna's pruner."""
        del n_steps
        from optuna.pruners import WilcoxonPruner

        return WilcoxonPruner(p_threshold=self.p_threshold, n_startup_steps=self.n_startup_steps)

    def reason(self, study: "Study", trial: "FrozenTrial") -> str:
        """The p-value of the test that decided, on how many folds, and against which trial."""
        from scipy.stats import wilcoxon

        best = study.best_trial
        shared = sorted(trial.intermediate_values.keys() & best.intermediate_values.keys())
        differences = [trial.intermediate_values[step] - best.intermediate_values[step] for step in shared]
        alternative = "less" if direction_of(study) == "maximize" else "greater"
        p = float(wilcoxon(differences, alternative=alternative, zero_method="zsplit").pvalue)
        return f"p = {number(p)} that it is as good as trial {best.number}, on {len(shared)} folds"
