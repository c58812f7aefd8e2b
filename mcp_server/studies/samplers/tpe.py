"""Tree-structured Parzen estimators."""

from typing import TYPE_CHECKING, Literal

from pydantic import Field

from mcp_server.studies.samplers._base import SamplerModel, Search

if TYPE_CHECKING:
    from optuna.samplers import BaseSampler


class TPE(SamplerModel):
    """Tree-structured Parzen estimator (Bergstra et al. 2011), for mixed and conditional spaces."""

    type: Literal["tpe"] = "tpe"
    n_startup_trials: int = Field(default=10, ge=0, le=10_000, description="Random trials before modelling starts.")
    multivariate: bool = Field(default=True, description="Model parameters jointly.")
    constant_liar: bool = Field(default=True, description="Keep parallel trials apart.")

    def build(self, search: Search) -> "BaseSampler":
        """Optuna's sampler; jointly modelled parameters are grouped, so conditional ones are modelled too."""
        from optuna.samplers import TPESampler

        return TPESampler(
            n_startup_trials=self.n_startup_trials,
            multivariate=self.multivariate,
            group=self.multivariate,
            constant_liar=self.constant_liar,
            seed=search.seed,
        )
