"""Points that cover a space evenly: Latin hypercube, Sobol and Halton, by `scipy.stats.qmc`.

A point is a corner of the unit cube with one axis for each parameter, also for those that may not exist; what a
condition rules out is left out. Points depend on the index alone, so a study that goes on in another process, or with
other trials in flight, continues the same list.
"""

from functools import lru_cache
from typing import TYPE_CHECKING, Literal

from pydantic import Field

from mcp_server.studies.samplers._base import Design, SamplerModel, Search
from mcp_server.studies.samplers.random import Random
from mcp_server.types import Params

if TYPE_CHECKING:
    from optuna.samplers import BaseSampler
    from scipy.stats.qmc import QMCEngine


class _QuasiRandom(SamplerModel):
    def planned(self, design: Design, index: int) -> Params:
        """The point with this index."""
        axes = list(design.space.ordered())
        corner = self._corner(len(axes), design, index)
        chosen: Params = {}
        for (name, entry), u in zip(axes, corner, strict=True):
            if design.space.active(name, chosen):
                chosen[name] = entry.at(u)
        return chosen

    def build(self, search: Search) -> "BaseSampler":
        """Optuna's random sampler, which is never asked: every trial is planned."""
        return Random().build(search)

    def _corner(self, dimensions: int, design: Design, index: int) -> tuple[float, ...]:
        raise NotImplementedError


class LatinHypercube(_QuasiRandom):
    """Each of `points` equal slices of each parameter once (McKay et al. 1979); then the next such design."""

    type: Literal["lhs"] = "lhs"
    points: int | None = Field(default=None, ge=1, le=100_000, description="Of a design; n_trials when omitted.")

    def _corner(self, dimensions: int, design: Design, index: int) -> tuple[float, ...]:
        points = self.points or design.n_trials
        nth, row = divmod(index, points)
        return _latin_hypercube(dimensions, points, (design.seed + nth) % 2**32)[row]


class Sobol(_QuasiRandom):
    """Scrambled Sobol points (Sobol 1967, Owen 1998): even at every length, best at powers of two."""

    type: Literal["sobol"] = "sobol"

    def _corner(self, dimensions: int, design: Design, index: int) -> tuple[float, ...]:
        from scipy.stats.qmc import Sobol as Engine

        return _nth(Engine(dimensions, rng=design.seed), index)


class Halton(_QuasiRandom):
    """Scrambled Halton points (Halton 1960, Owen 2017): even at every length."""

    type: Literal["halton"] = "halton"

    def _corner(self, dimensions: int, design: Design, index: int) -> tuple[float, ...]:
        from scipy.stats.qmc import Halton as Engine

        return _nth(Engine(dimensions, rng=design.seed), index)


def _nth(sequence: "QMCEngine", index: int) -> tuple[float, ...]:
    if index:
        sequence.fast_forward(index)
    return tuple(map(float, sequence.random(1)[0]))


@lru_cache(maxsize=2)
def _latin_hypercube(dimensions: int, points: int, seed: int) -> tuple[tuple[float, ...], ...]:
    from scipy.stats.qmc import LatinHypercube as Hypercube

    return tuple(tuple(map(float, row)) for row in Hypercube(dimensions, rng=seed).random(points))
