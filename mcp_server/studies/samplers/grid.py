"""Every combination."""

from typing import TYPE_CHECKING, Literal

from mcp_server.studies.samplers._base import Design, SamplerModel, Search
from mcp_server.studies.samplers.random import Random
from mcp_server.studies.space import SearchSpace
from mcp_server.types import Params

if TYPE_CHECKING:
    from optuna.samplers import BaseSampler


class GridSearch(SamplerModel):
    """Every combination once, in order."""

    type: Literal["grid"] = "grid"

    def planned(self, design: Design, index: int) -> Params | None:
        """The grid point with this index."""
        return design.space.grid().point(index)

    def size(self, space: SearchSpace) -> int:
        """The number of grid points."""
        return len(space.grid())

    def check(self, space: SearchSpace) -> None:
        """Refuse a grid without an end, or with more points than anybody would run."""
        space.grid()

    def build(self, search: Search) -> "BaseSampler":
        """Optuna's random sampler, which is never asked: every trial is planned."""
        return Random().build(search)
