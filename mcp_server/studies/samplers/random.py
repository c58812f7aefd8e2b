"""Independent draws."""

from typing import TYPE_CHECKING, Literal

from mcp_server.studies.samplers._base import SamplerModel, Search

if TYPE_CHECKING:
    from optuna.samplers import BaseSampler


class Random(SamplerModel):
    """Independent uniform draws."""

    type: Literal["random"] = "random"

    def build(self, search: Search) -> "BaseSampler":
        """Optuna's sampler."""
        from optuna.samplers import RandomSampler

        return RandomSampler(seed=search.seed)
