"""What every sampler model offers the runner."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from pydantic import BaseModel, ConfigDict

from mcp_server.studies.space import SearchSpace
from mcp_server.types import Params

if TYPE_CHECKING:
    from optuna.samplers import BaseSampler
    from optuna.trial import FrozenTrial


@dataclass(frozen=True)
class Design:
    """What a sampler that follows a list knows of its study: space, seed, and how many trials it had when it began.

    A larger total later does not move the points of earlier trials.
    """

    space: SearchSpace
    seed: int
    n_trials: int


@dataclass(frozen=True)
class Search:
    """What Optuna's sampler is built from; `earlier` are the ended trials when a study goes on in a new process."""

    space: SearchSpace
    seed: int
    earlier: "Sequence[FrozenTrial]" = field(default=())


class SamplerModel(BaseModel):
    """How the next trial is chosen, as a caller writes it."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    def planned(self, design: Design, index: int) -> Params | None:
        """The point that the sampler's trial `index` must have, for samplers that follow a list."""
        del design, index
        return None

    def size(self, space: SearchSpace) -> int | None:
        """How many different trials there are, None when there is no end."""
        del space
        return None

    def check(self, space: SearchSpace) -> None:
        """Refuse a space that the sampler cannot search.

        Raises:
            InvalidRequestError: With what to use instead.
            MissingDependencyError: If a package is missing.
        """
        del space

    def build(self, search: Search) -> "BaseSampler":
        """Optuna's sampler with this configuration."""
        raise NotImplementedError
