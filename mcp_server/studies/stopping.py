"""When a study ends: pure functions of what was allowed and what was used."""

from bisect import insort
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from math import fsum
from typing import Literal

from mcp_server.studies import limits as asked
from mcp_server.types import Direction

StopReason = Literal[
    "trials", "grid_exhausted", "timeout", "deadline", "budget", "team_budget", "approval",
    "cpu_seconds", "target", "patience", "plateau",
    "failures", "consecutive_failures", "user", "all_failed", "internal_error",
]  # fmt: skip

FAILURES_WITHOUT_SUCCESS = 6


@dataclass(frozen=True)
class Limits:
    """What a study may use; None means no limit. `rules` are the further ones that its caller set."""

    n_trials: int
    space_size: int | None = None
    timeout_s: float | None = None
    cost_usd: float | None = None
    approved_usd: float | None = None
    team_left_usd: float | None = None  # of the month, without what runs
    rules: asked.Limits = field(default_factory=asked.Limits)


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
    in_flight_usd: float = 0.0  # of cost_usd
    cpu_seconds: float = 0.0
    failed_in_a_row: int = 0
    found: StopReason | None = None  # what the values say: target, patience or plateau


@dataclass
class Gains:
    """What the values of completed trials, in the order of their ends, say about going on."""

    rules: asked.Limits
    direction: Direction
    n_complete: int = 0
    since_gain: int = 0
    mark: float | None = None  # the loss at the last gain
    top: list[float] = field(default_factory=list)  # the least losses, as many as a plateau takes

    def add(self, value: float) -> None:
        """One more trial completed with this value."""
        loss = self._loss(value)
        self.n_complete += 1
        if self.mark is None or loss < self.mark - self.rules.min_delta:
            self.mark, self.since_gain = loss, 0
        else:
            self.since_gain += 1
        insort(self.top, loss)
        del self.top[self.rules.plateau or 1 :]

    def _loss(self, value: float) -> float:
        return -value if self.direction == "maximize" else value

    @property
    def found(self) -> StopReason | None:
        """Why no further trial is needed, None while one is."""
        rules = self.rules
        if not self.top:
            return None
        if rules.target is not None and self.top[0] <= self._loss(rules.target):
            return "target"
        if self.n_complete < rules.min_trials:
            return None
        if rules.patience is not None and self.since_gain >= rules.patience:
            return "patience"
        level = rules.plateau is not None and len(self.top) == rules.plateau
        return "plateau" if level and self.top[-1] - self.top[0] <= rules.min_delta else None


@dataclass
class Tally:
    """Running counts of a study's ended trials and costs."""

    states: Counter[str] = field(default_factory=Counter)
    costs: list[float] = field(default_factory=list)  # sorted, US dollars per attempt
    forgiven: int = 0  # failed trials
    cpu_seconds: float = 0.0
    failed_in_a_row: int = 0
    gains: Gains = field(default_factory=lambda: Gains(asked.Limits(), "maximize"))

    def count(self, state: str, value: float | None = None) -> None:
        """One more trial ended in `state`, with `value` when it completed."""
        self.states[state] += 1
        self.failed_in_a_row = self.failed_in_a_row + 1 if state == "failed" else 0
        if state == "complete" and value is not None:
            self.gains.add(value)

    def forgive(self) -> None:
        """From now on, no failure so far is a reason to give up."""
        self.forgiven = self.states["failed"]
        self.failed_in_a_row = 0

    def add_cost(self, usd: float, cpu_seconds: float = 0.0) -> None:
        """One more attempt cost this much and took so many processor seconds."""
        insort(self.costs, usd)
        self.cpu_seconds += cpu_seconds

    @property
    def cost_usd(self) -> float:
        """What all attempts that are over have cost."""
        return fsum(self.costs)

    @property
    def fruitless(self) -> bool:
        """Whether trials failed and none gave a value."""
        return bool(self.states["failed"]) and not self.states["complete"] and not self.states["pruned"]

    def use(
        self, *, started: int, elapsed_s: float, in_flight_usd: Sequence[float], in_flight_cpu_s: float = 0.0
    ) -> Use:
        """What the study has used; each attempt that still runs takes at least the median cost."""
        median = self.costs[len(self.costs) // 2] if self.costs else 0.0
        expected = [max(usd, median) for usd in in_flight_usd]
        return Use(
            started=started,
            complete=self.states["complete"],
            pruned=self.states["pruned"],
            failed=self.states["failed"] - self.forgiven,
            elapsed_s=elapsed_s,
            cost_usd=fsum([*self.costs, *expected]),
            in_flight_usd=fsum(expected),
            median_cost_usd=median,
            cpu_seconds=self.cpu_seconds + in_flight_cpu_s,
            failed_in_a_row=self.failed_in_a_row,
            found=self.gains.found,
        )

    def crossed(self, limits: Limits, use: Use, in_flight_usd: Sequence[float]) -> StopReason | None:
        """Why even trials that run should end; unlike `exhausted` it expects nothing of what they will still cost."""
        running = fsum(in_flight_usd)
        if (reached := _too_dear(limits, fsum([*self.costs, running]), running)) is not None:
            return reached
        return _rule_reached(limits.rules, use)


def exhausted(limits: Limits, use: Use) -> StopReason | None:
    """Why no further trial may start, or None while one may.

    A trial is not started when the median cost so far does not fit into what is left of the budget.
    """
    if limits.timeout_s is not None and use.elapsed_s >= limits.timeout_s:
        return "timeout"
    next_one = use.median_cost_usd
    if (dear := _too_dear(limits, use.cost_usd + next_one, use.in_flight_usd + next_one)) is not None:
        return dear
    if (reached := _rule_reached(limits.rules, use)) is not None:
        return reached
    if use.failed >= FAILURES_WITHOUT_SUCCESS and not use.complete and not use.pruned:
        return "all_failed"
    if limits.space_size is not None and use.started >= limits.space_size:
        return "grid_exhausted"
    return "trials" if use.started >= limits.n_trials else None


def _too_dear(limits: Limits, cost_usd: float, beyond_usd: float) -> StopReason | None:
    """The budget that `cost_usd` in all does not fit, or `beyond_usd` of it that the team's month has not seen."""
    if limits.cost_usd is not None and cost_usd > limits.cost_usd:
        return "budget"
    approved, left = limits.approved_usd, limits.team_left_usd
    if approved is not None and (approved <= 0 or cost_usd > approved):
        return "approval"
    return "team_budget" if left is not None and (left <= 0 or beyond_usd > left) else None


def _rule_reached(rules: asked.Limits, use: Use) -> StopReason | None:
    if rules.cpu_seconds is not None and use.cpu_seconds >= rules.cpu_seconds:
        return "cpu_seconds"
    if rules.failures is not None and use.failed >= rules.failures:
        return "failures"
    if rules.consecutive_failures is not None and use.failed_in_a_row >= rules.consecutive_failures:
        return "consecutive_failures"
    return use.found
