"""Gaussian-process optimisation by scikit-optimize."""

from importlib.util import find_spec
from typing import TYPE_CHECKING, Literal

from pydantic import Field

from mcp_server.errors import MissingDependencyError
from mcp_server.studies.samplers._base import SamplerModel, Search
from mcp_server.studies.space import SearchSpace

if TYPE_CHECKING:
    from optuna.samplers import BaseSampler


class Bayesian(SamplerModel):
    """Gaussian process or extra trees of scikit-optimize with expected improvement (Jones et al. 1998).

    Conditional parameters are searched in one flat space, in which those that do not exist keep their middle value.
    """

    type: Literal["bayesian"] = "bayesian"
    n_startup_trials: int = Field(default=10, ge=1, le=10_000, description="Random trials before modelling starts.")
    surrogate: Literal["gp", "et", "rf"] = Field(default="gp", description="Model of the objective.")
    acquisition: Literal["EI", "PI", "LCB", "gp_hedge"] = Field(default="EI", description="How a point is chosen.")

    def check(self, space: SearchSpace) -> None:
        """Refuse to go without scikit-optimize."""
        del space
        if find_spec("skopt") is None:
            raise MissingDependencyError(
                "The sampler bayesian needs scikit-optimize, which is not installed.",
                hint="pip install scikit-optimize, or use the tpe sampler.",
            )

    def build(self, search: Search) -> "BaseSampler":
        """An Optuna sampler that asks scikit-optimize."""
        from mcp_server.studies.samplers.skopt_sampler import SkoptSampler

        return SkoptSampler(
            search.space,
            seed=search.seed,
            n_startup_trials=self.n_startup_trials,
            surrogate=self.surrogate,
            acquisition=self.acquisition,
        )
