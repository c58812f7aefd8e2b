"""Looks now and then how much the trials that have a limit take, and says which are over it."""

import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

from mcp_server.execution._messages import WorkerOrder
from mcp_server.execution.usage import disk_bytes, memory_bytes
from mcp_server.types import AttemptState

POLL_S = 0.2
COST_SHARE = 20
POLL_LIMIT_S = 2.0
_MB = 10**6

Verdict = tuple[AttemptState, str | None]


@dataclass(slots=True)
class _Meter:
    job_id: str
    measure: Callable[[], int]
    limit: int
    state: AttemptState
    sentence: str
    due: float = 0.0

    def verdict(self) -> Verdict | None:
        """Why the trial has to end, and when to look again."""
        begin = time.monotonic()
        used = self.measure()
        end = time.monotonic()
        # A look at tens of gigabytes that are in part shared takes long, so it comes less often.
        self.due = end + min(max(POLL_S, COST_SHARE * (end - begin)), POLL_LIMIT_S)
        if used <= self.limit:
            return None
        return self.state, self.sentence.format(used=_mb(used), limit=_mb(self.limit))


class Watch:
    """The limits of running trials; one without a limit costs nothing."""

    def __init__(self) -> None:
        self._meters: list[_Meter] = []

    @property
    def due(self) -> float:
        """When to call `exceeded` again, on the monotonic clock."""
        return min((meter.due for meter in self._meters), default=float("inf"))

    def add(self, order: WorkerOrder, pid: int) -> None:
        """Watch the worker `pid`, and all it starts."""
        if order.memory_mb is not None:
            limit = int(order.memory_mb * _MB)
            sentence = "out of memory: the trial took {used} MB, and limits.trial_memory_mb allows {limit} MB"
            measure = partial(memory_bytes, pid, limit)
            self._meters.append(_Meter(order.job_id, measure, limit, "oom", sentence))

        if order.disk_mb is not None and order.folder is not None:
            limit = int(order.disk_mb * _MB)
            sentence = "the trial's files took {used} MB, and limits.trial_disk_mb allows {limit} MB"
            self._meters.append(_Meter(order.job_id, partial(disk_bytes, order.folder), limit, "failed", sentence))

    def drop(self, job_id: str) -> None:
        """Stop watching a job."""
        self._meters = [meter for meter in self._meters if meter.job_id != job_id]

    def exceeded(self) -> list[tuple[str, Verdict]]:
        """The jobs that are over a limit, each once, with how they end."""
        now = time.monotonic()
        found: dict[str, Verdict] = {}
        for meter in self._meters:
            if meter.due <= now and (verdict := meter.verdict()) is not None:
                found.setdefault(meter.job_id, verdict)
        for job_id in found:
            self.drop(job_id)
        return list(found.items())


def _mb(size: int) -> str:
    return f"{-(-size // _MB):,}"
