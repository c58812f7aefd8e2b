"""The contract between a runner and the processes that run its trials."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Protocol

from mcp_server.types import AttemptState, JsonObject

STARTER_DIED = "the process that workers are forked from died"
"""The error of attempts that were lost together."""


@dataclass(frozen=True, slots=True)
class TrialTask:
    """One attempt at one trial, as it travels to a worker: JSON all through.

    `objective` is `package.module:function`; the function gets a `Trial` and returns a float or a `TrialResult`.
    It runs in `folder`, which is its own, or wherever its executor runs if that is not given.
    """

    job_id: str
    objective: str
    number: int
    params: JsonObject
    payload: JsonObject
    log_path: str
    timeout_s: float | None = None
    memory_mb: float | None = None
    folder: str | None = None
    disk_mb: float | None = None
    environment: dict[str, str] = field(default_factory=dict)
    python_path: list[str] = field(default_factory=list)
    token_prices: dict[str, list[float]] = field(default_factory=dict)  # US dollars a token of each model, in and out


@dataclass(frozen=True, slots=True)
class TrialResult:
    """What an objective found: the value to optimise, and what else is worth keeping."""

    value: float
    std: float | None = None
    folds: list[float] = field(default_factory=list)
    metrics: dict[str, float] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Reported:
    """A trial reported an intermediate value and waits for `Executor.answer`.

    `value` belongs to `step` alone (one fold, one epoch); `running` is what the trial would score if it ended now.
    """

    job_id: str
    step: int
    value: float
    running: float


@dataclass(frozen=True, slots=True)
class Charged:
    """A trial said that it has cost `usd` more than its time: tokens of a model, a service, a licence."""

    job_id: str
    usd: float


@dataclass(frozen=True, slots=True)
class Ended:
    """An attempt is over; `seconds` is wall time on the monotonic clock, `result` is there when it completed."""

    job_id: str
    state: AttemptState
    seconds: float
    cpu_seconds: float = 0.0
    result: TrialResult | None = None
    error: str | None = None

    @property
    def with_others(self) -> bool:
        """Whether the worker was lost because what all workers come from died, which no trial has to answer for."""
        return self.state == "lost" and self.error == STARTER_DIED


Event = Reported | Charged | Ended


class Executor(Protocol):
    """Runs attempts, at most `slots` at a time, and hides how.

    An implementation must: answer `submit` at once; deliver every event of a job in order and exactly one `Ended` per
    submitted job, whatever happens to it (an exception, `sys.exit`, a signal, a death of its node); end a job that
    passes `TrialTask.timeout_s` (counted from when its worker runs) with state `timeout`, one that takes more than
    `memory_mb` (10^6 bytes) with state `oom` and one whose files in `folder` take more than `disk_mb` with state
    `failed`, together with all processes it started; report a worker that died of a
    signal it did not get from us as `lost` (killed, terminated) or `failed` (segmentation fault and the like); leave no
    process of a trial behind its `Ended`, and none at all after `close`.
    `mcp_server.testing.executors.ExecutorContract` checks all of it. An executor belongs to one thread.
    """

    @property
    def slots(self) -> int:
        """How many attempts may run at a time."""

    def resize(self, slots: int) -> None:
        """Allow `slots` attempts at a time from now on; attempts above it run to their end."""

    def submit(self, task: TrialTask) -> None:
        """Start an attempt; the caller keeps within `slots`.

        Raises:
            ConflictError: If all slots are busy, or a job with this id is running.
        """

    def wait(self, timeout_s: float) -> Sequence[Event]:
        """What happened since the last call, waiting at most `timeout_s` for something to happen."""

    def answer(self, job_id: str, *, prune: bool) -> None:
        """Let a trial that reported go on, or stop it as pruned. Unknown and ended jobs are ignored."""

    def cancel(self, job_id: str) -> None:
        """Kill an attempt with everything it started; its `Ended` has state `cancelled` unless it was over already."""

    def close(self) -> None:
        """Kill what still runs and free everything; no events follow."""
