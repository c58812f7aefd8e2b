"""How the next trial is chosen. A sampler is a model that builds Optuna's; adding one touches this file only."""

from typing import TYPE_CHECKING, Annotated, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field

from mcp_server.studies.space import SearchSpace
from mcp_server.types import Params

if TYPE_CHECKING:
    from optuna.samplers import BaseSampler


class _Sampler(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")

    def planned(self, space: SearchSpace, index: int) -> Params | None:
        """The point that trial `index` must have, for samplers that follow a list."""
        del space, index
        return None

    def size(self, space: SearchSpace) -> int | None:
        """How many different trials there are, None when there is no end."""
        del space
        return None

    def build(self, seed: int) -> "BaseSampler":
        """Optuna's sampler with this configuration."""
        raise NotImplementedError


class TPE(_Sampler):
    """Tree-structured Parzen estimator (Bergstra et al. 2011), for mixed and conditional spaces."""

    type: Literal["tpe"] = "tpe"
    n_startup_trials: int = Field(default=10, ge=0, le=10_000, description="Random trials before modelling starts.")
    multivariate: bool = Field(default=True, description="Model parameters jointly.")
    constant_liar: bool = Field(default=True, description="Keep parallel trials apart.")

    def build(self, seed: int) -> "BaseSampler":
        """Optuna's sampler; jointly modelled parameters are grouped, so conditional ones are modelled too."""
        from optuna.samplers import TPESampler

        return TPESampler(
            n_startup_trials=self.n_startup_trials,
            multivariate=self.multivariate,
            group=self.multivariate,
            constant_liar=self.constant_liar,
            seed=seed,
        )


class Random(_Sampler):
    """Independent uniform draws."""

    type: Literal["random"] = "random"

    def build(self, seed: int) -> "BaseSampler":
        """Optuna's sampler."""
        from optuna.samplers import RandomSampler

        return RandomSampler(seed=seed)


class GridSearch(_Sampler):
    """Every combination once, in order."""

    type: Literal["grid"] = "grid"

    def planned(self, space: SearchSpace, index: int) -> Params | None:
        """The grid point with this index."""
        return space.grid().point(index)

    def size(self, space: SearchSpace) -> int:
        """The number of grid points."""
        return len(space.grid())

    def build(self, seed: int) -> "BaseSampler":
        """Optuna's random sampler, which is never asked: every trial is planned."""
        return Random().build(seed)


def _named(value: object) -> object:
    return {"type": value} if isinstance(value, str) else value


Sampler = Annotated[TPE | Random | GridSearch, Field(discriminator="type"), BeforeValidator(_named)]
