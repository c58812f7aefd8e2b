"""Trials as threads of this process, for tests and debuggers."""

import queue
import threading
import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, field

from mcp_server.errors import ConflictError
from mcp_server.execution._base import Charged, Ended, Event, Reported, TrialTask
from mcp_server.execution.worker import run_objective


class _Abandoned(BaseException):
    """Unwinds a cancelled trial from its next report; no objective should catch it."""


@dataclass(slots=True)
class _Job:
    task: TrialTask
    answers: queue.SimpleQueue[bool | None] = field(default_factory=queue.SimpleQueue)
    started: float = field(default_factory=time.monotonic)


class InlineExecutor:
    """Runs trials in threads of this process: nothing to start, and a debugger sees all of it.

    The price is isolation. Of a `TrialTask`, its limits, `environment` and `log_path` have no effect; a cancelled trial
    has its `Ended` at once, but its thread goes on until its next report; a crash takes this process along. So it
    passes `mcp_server.testing.executors.ExecutorContract` and not `ProcessExecutorContract`.
    """

    def __init__(self, slots: int = 1) -> None:
        self._slots = slots
        self._jobs: dict[str, _Job] = {}
        self._events: queue.SimpleQueue[Event] = queue.SimpleQueue()
        self._turn = threading.Lock()

    @property
    def slots(self) -> int:
        """How many attempts may run at a time."""
        return self._slots

    def resize(self, slots: int) -> None:
        """Allow `slots` attempts at a time from now on; attempts above it run to their end."""
        self._slots = slots

    def submit(self, task: TrialTask) -> None:
        """Start an attempt.

        Raises:
            ConflictError: If all slots are busy, or a job with this id is.
        """
        if task.job_id in self._jobs:
            raise ConflictError(f"Job {task.job_id} runs already.", hint="Give each attempt an id of its own.")
        if len(self._jobs) >= self._slots:
            raise ConflictError(f"All {self._slots} slots are busy.", hint="Wait for an attempt to end.")
        job = self._jobs[task.job_id] = _Job(task)
        threading.Thread(target=self._run, args=(job,), name=f"trial {task.job_id}", daemon=True).start()

    def wait(self, timeout_s: float) -> Sequence[Event]:
        """What happened since the last call, waiting at most `timeout_s` for something to happen."""
        events: list[Event] = []
        with suppress(queue.Empty):
            events.append(self._events.get(timeout=timeout_s))
            while True:
                events.append(self._events.get_nowait())
        return events

    def answer(self, job_id: str, *, prune: bool) -> None:
        """Let a trial that reported go on, or tell it to stop. Unknown and ended jobs are ignored."""
        if (job := self._jobs.get(job_id)) is not None:
            job.answers.put(prune)

    def cancel(self, job_id: str) -> None:
        """End an attempt as `cancelled`; its thread goes on until it reports or returns."""
        if (job := self._jobs.get(job_id)) is not None:
            self._end(job, Ended(job_id, "cancelled", time.monotonic() - job.started, error="cancelled"))
            job.answers.put(None)

    def close(self) -> None:
        """Cancel what still runs."""
        for job_id in list(self._jobs):
            self.cancel(job_id)

    def _run(self, job: _Job) -> None:
        def ask(step: int, value: float, running: float) -> bool:
            self._tell(job, Reported(job.task.job_id, step, value, running))
            if (prune := job.answers.get()) is None:
                raise _Abandoned
            return prune

        def charge(usd: float) -> None:
            self._tell(job, Charged(job.task.job_id, usd))

        with suppress(_Abandoned):
            outcome = run_objective(job.task, ask, charge)
            seconds, cpu_seconds = time.monotonic() - job.started, time.thread_time()
            self._end(job, Ended(job.task.job_id, outcome.state, seconds, cpu_seconds, outcome.result, outcome.error))

    def _tell(self, job: _Job, event: Reported | Charged) -> None:
        with self._turn:
            if self._jobs.get(job.task.job_id) is not job:
                raise _Abandoned
            self._events.put(event)

    def _end(self, job: _Job, event: Ended) -> None:
        with self._turn:
            if self._jobs.get(job.task.job_id) is job:  # else it was cancelled while it ran
                del self._jobs[job.task.job_id]
                self._events.put(event)
