"""No pruning."""

from typing import TYPE_CHECKING, Literal

from mcp_server.studies.pruners._base import PrunerModel

if TYPE_CHECKING:
    from optuna.pruners import BasePruner


class NoPruner(PrunerModel):
    """Lets every trial run to its end."""

    type: Literal["none"] = "none"

    def build(self, n_steps: int | None) -> "BasePruner":
        """Optuna's pruner."""
        del n_steps
        from optuna.pruners import NopPruner

        return NopPruner()
