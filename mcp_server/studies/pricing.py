"""What a study's trials cost and what its team has left, as its runner asks."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from mcp_server.studies.team_budget import TeamBudget


@dataclass(frozen=True)
class Pricing:
    """Prices in force while a runner lives.

    Attributes:
        usd_per_second: Of a trial on these GPUs, by their ids.
        token_prices: US dollars for one token of each model, in and out.
        team: What the team has left this month.
    """

    usd_per_second: Callable[[Sequence[str]], float] = lambda _: 0.0
    token_prices: dict[str, list[float]] = field(default_factory=dict)
    team: TeamBudget = field(default_factory=lambda: TeamBudget(None, lambda: 0.0))
