"""When a study ends: pure functions of what was allowed and what was used."""

from bisect import insort
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from math import fsum
from typing import Literal

StopReason = Literal["trials", "grid_exhausted", "timeout", "budget", "user", "all_failed", "internal_error"]

FAILURES_WITHOUT_SUCCESS = 6


@dataclass(frozen=True)
class Limits:
    """What a study may use; None means no limit."""

    n_trials: int
    space_size: int | None = None
    timeout_s: float | None = None
    cost_usd: float | None = None


@dataclass(frozen=True)
class Use:
    """What a study has used, attempts in flight included."""

    started: int
    complete: int
    pruned: int
    failed: int
    elapsed_s: float
    cost_usd: float
    median_cost_usd: float = 0.0


@dataclass
class Tally:
    """Running counts of a study's ended trials and costs."""

    states: Counter[str] = field(default_factory=Counter)
    costs: list[float] = field(default_factory=list)  # sorted, US dollars per attempt
    forgiven: int = 0  # failed trials

    def count(self, state: str) -> None:
        """One more trial ended in `state`."""
        self.states[state] += 1

    def forgive(self) -> None:
        """From now on, no failure so far is a reason to give up."""
        self.forgiven = self.states["failed"]

    def add_cost(self, usd: float) -> None:
        """One more attempt cost this much."""
        insort(self.costs, usd)

    @property
    def fruitless(self) -> bool:
        """Whether trials failed and none gave a value."""
        return bool(self.states["failed"]) and not self.states["complete"] and not self.states["pruned"]

    def use(self, *, started: int, elapsed_s: float, in_flight_usd: Sequence[float]) -> Use:
        """What the study has used; each attempt that still runs takes at least the median cost."""
        median = self.costs[len(self.costs) // 2] if self.costs else 0.0
        return Use(
            started=started,
            complete=self.states["complete"],
            pruned=self.states["pruned"],
            failed=self.states["failed"] - self.forgiven,
            elapsed_s=elapsed_s,
            cost_usd=fsum([*self.costs, *(max(usd, median) for usd in in_flight_usd)]),
            median_cost_usd=median,
        )


def exhausted(limits: Limits, use: Use) -> StopReason | None:
    """Why no further trial may start, or None while one may.

    A trial is not started when the median cost so far does not fit into what is left of the budget.
    """
    if limits.timeout_s is not None and use.elapsed_s >= limits.timeout_s:
        return "timeout"
    if limits.cost_usd is not None and use.cost_usd + use.median_cost_usd > limits.cost_usd:
        return "budget"
    if use.failed >= FAILURES_WITHOUT_SUCCESS and not use.complete and not use.pruned:
        return "all_failed"
    if limits.space_size is not None and use.started >= limits.space_size:
        return "grid_exhausted"
    return "trials" if use.started >= limits.n_trials else None
