"""When a study ends: pure functions of what was allowed and what was used."""

from dataclasses import dataclass
from typing import Literal

StopReason = Literal["trials", "grid_exhausted", "timeout", "budget", "user", "all_failed"]

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
