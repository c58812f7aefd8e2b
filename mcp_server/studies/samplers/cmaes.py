"""Covariance matrix adaptation."""

from typing import TYPE_CHECKING, Literal

from pydantic import Field

from mcp_server.distributions import Float, Int
from mcp_server.errors import InvalidRequestError
from mcp_server.studies.samplers._base import SamplerModel, Search
from mcp_server.studies.space import SearchSpace

if TYPE_CHECKING:
    from collections.abc import Iterator

    from optuna.samplers import BaseSampler
    from optuna.trial import FrozenTrial

ENOUGH_TO_START_FROM = 10  # its warm start takes the best tenth


class CmaEs(SamplerModel):
    """CMA-ES (Hansen 2016) for numeric parameters that always exist; choices and conditional ones are drawn at random.

    A study that goes on in another process starts from the promising region of its earlier trials (Nomura et al. 2021).
    """

    type: Literal["cmaes"] = "cmaes"
    population: int | None = Field(default=None, ge=4, le=10_000, description="Trials of one generation.")

    def check(self, space: SearchSpace) -> None:
        """Refuse a space without two numeric parameters that always exist."""
        adapted = len(_adapted(space))
        if adapted < 2:  # noqa: PLR2004 - a covariance takes two
            raise InvalidRequestError(
                f"cmaes adapts numeric parameters that always exist, and this space has {adapted} of them.",
                hint="Use the tpe sampler, which also learns choices and conditional parameters.",
            )

    def build(self, search: Search) -> "BaseSampler":
        """Optuna's sampler."""
        from optuna.samplers import CmaEsSampler

        known = list(_numeric_parts(search))
        return CmaEsSampler(
            seed=search.seed,
            popsize=self.population,
            warn_independent_sampling=False,
            source_trials=known if len(known) >= ENOUGH_TO_START_FROM else None,
        )


def _numeric_parts(search: Search) -> "Iterator[FrozenTrial]":
    """The completed trials without the parameters that CMA-ES does not adapt."""
    from optuna.trial import TrialState, create_trial

    names = set(_adapted(search.space))
    for trial in search.earlier:
        if trial.state == TrialState.COMPLETE and names <= trial.params.keys():
            yield create_trial(
                value=trial.value,
                params={name: trial.params[name] for name in names},
                distributions={name: trial.distributions[name] for name in names},
            )


def _adapted(space: SearchSpace) -> list[str]:
    return [
        name
        for name, entry in space.root.items()
        if isinstance(entry, Float | Int) and not entry.when and entry.low < entry.high
    ]
