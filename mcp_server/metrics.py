"""How often each tool is called, how it ends and how long it takes."""

import threading
import time
from bisect import bisect_left
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Literal

Outcome = Literal["ok", "denied", "invalid", "error", "crash", "cancelled"]

BUCKETS_S = (0.01, 0.1, 1.0, 5.0, 15.0, 45.0)
_HELP = (
    "# HELP tuning_tool_seconds How long tool calls took, by tool and outcome.\n# TYPE tuning_tool_seconds histogram\n"
)


@dataclass
class Observation:
    """A call while it runs; whoever runs it says how it ended."""

    outcome: Outcome = "cancelled"
    seconds: float = 0.0


@dataclass(frozen=True)
class Durations:
    """The calls of one tool with one outcome: how many, how long together, and how many up to each bucket's limit."""

    count: int
    seconds: float
    buckets: tuple[int, ...]


@dataclass
class _Series:
    seconds: float = 0.0
    counts: list[int] = field(default_factory=lambda: [0] * (len(BUCKETS_S) + 1))

    def durations(self) -> Durations:
        running, cumulative = 0, []
        for count in self.counts:
            running += count
            cumulative.append(running)
        return Durations(running, self.seconds, tuple(cumulative[:-1]))


class Metrics:
    """Counts and durations per tool and outcome. Safe to share between threads.

    >>> metrics = Metrics()
    >>> with metrics.observe("get_run") as observation:
    ...     observation.outcome = "ok"
    >>> metrics.snapshot()["get_run", "ok"].count
    1
    """

    def __init__(self) -> None:
        self._series: dict[tuple[str, Outcome], _Series] = {}
        self._changing = threading.Lock()

    @contextmanager
    def observe(self, name: str) -> Iterator[Observation]:
        """Time a call; one that ends before its outcome is set counts as cancelled."""
        observation, started = Observation(), time.perf_counter()
        try:
            yield observation
        finally:
            observation.seconds = time.perf_counter() - started
            with self._changing:
                series = self._series.setdefault((name, observation.outcome), _Series())
                series.seconds += observation.seconds
                series.counts[bisect_left(BUCKETS_S, observation.seconds)] += 1

    def snapshot(self) -> dict[tuple[str, Outcome], Durations]:
        """What was counted so far, by tool and outcome."""
        with self._changing:
            return {key: series.durations() for key, series in sorted(self._series.items())}

    def prometheus(self) -> str:
        """The snapshot in Prometheus' text format (prometheus.io/docs/instrumenting/exposition_formats)."""
        return _HELP + "".join(
            line for (tool, outcome), durations in self.snapshot().items() for line in _lines(tool, outcome, durations)
        )


def _lines(tool: str, outcome: str, durations: Durations) -> Iterator[str]:
    labels = f'tool="{_escaped(tool)}",outcome="{outcome}"'
    for limit, count in zip(BUCKETS_S, durations.buckets, strict=True):
        yield f'tuning_tool_seconds_bucket{{{labels},le="{limit:g}"}} {count}\n'
    yield f'tuning_tool_seconds_bucket{{{labels},le="+Inf"}} {durations.count}\n'
    yield f"tuning_tool_seconds_sum{{{labels}}} {durations.seconds:.6f}\n"
    yield f"tuning_tool_seconds_count{{{labels}}} {durations.count}\n"


def _escaped(label: str) -> str:
    return label.replace("\\", r"\\").replace('"', r"\"").replace("\n", r"\n")
