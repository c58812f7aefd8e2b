"""Trials on this machine, each in a process of its own."""

import signal
import sys
import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from multiprocessing.connection import Connection, Pipe, wait
from pathlib import Path
from typing import Literal

from mcp_server.errors import ConflictError
from mcp_server.execution._base import STARTER_DIED, Charged, Ended, Event, Reported, TrialTask
from mcp_server.execution._messages import (
    MESSAGE_LIMIT,
    Answer,
    Assignment,
    Charge,
    FromWorker,
    Outcome,
    Report,
    WorkerOrder,
    decoded_from_worker,
    encoded,
)
from mcp_server.execution.environment import allowed_environment
from mcp_server.execution.launchers import Exceeded, Exited, ForkLauncher, Launcher, SpawnLauncher, Started
from mcp_server.execution.run_folder import RunFolder
from mcp_server.execution.watch import Verdict
from mcp_server.processes import child_environment, thread_caps

EXIT_GRACE_S = 10.0
_REMOVED = {"completed", "pruned", "lost"}
_KILLED_FROM_OUTSIDE = {"SIGKILL", "SIGTERM", "SIGHUP"}


@dataclass(slots=True)
class _Job:
    task: TrialTask
    pipe: Connection | None
    folder: RunFolder | None
    started: float | None = None
    due: float = field(default=float("inf"))
    outcome: Outcome | None = None
    killed_as: Verdict | None = None


class LocalExecutor:
    """Runs each trial in a clean process on this machine. It belongs to one thread.

    On Linux the process is a fork of one that has done the imports, which starts here and now in the background; a
    trial then costs milliseconds. Elsewhere it is a fresh interpreter. Either way it is killed with all that it
    started on a timeout, on `cancel`, on `close` and when the process that owns the executor dies.

    Args:
        slots: How many trials may run at a time.
        threads: How many threads the numeric libraries of one trial may use; `resize` does not change it.
        preload: Modules that trials import anyway; they must not start threads or initialise a GPU on import.
        inherit: Environment variables that trials get besides those in `execution.environment.NEEDED`.
        keep_files: Whether what a trial left in its folder stays although it completed or was pruned.
        start_method: `fork` on Linux and `spawn` elsewhere, unless given.
    """

    def __init__(
        self,
        slots: int,
        *,
        threads: int,
        preload: Sequence[str] = (),
        inherit: Sequence[str] = (),
        keep_files: bool = False,
        start_method: Literal["fork", "spawn"] | None = None,
    ) -> None:
        method = start_method or ("fork" if sys.platform == "linux" else "spawn")
        self._slots = slots
        self._keep_files = keep_files
        environment = allowed_environment(child_environment(), inherit) | thread_caps(threads)
        self._launcher: Launcher = (
            ForkLauncher(environment, preload) if method == "fork" else SpawnLauncher(environment)
        )
        self._jobs: dict[str, _Job] = {}
        self._kept: list[Event] = []

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
        ours, theirs = Pipe()
        with theirs:
            self._launcher.start(WorkerOrder.of(task), theirs)
        job = self._jobs[task.job_id] = _Job(task, ours, RunFolder(Path(task.folder)) if task.folder else None)
        own = job.folder.environment() if job.folder else {}
        self._send(job, Assignment(task, own))

    def wait(self, timeout_s: float) -> Sequence[Event]:
        """What happened since the last call, waiting at most `timeout_s` for something to happen."""
        if self._kept:
            kept, self._kept = self._kept, []
            return kept
        return self._next_events(timeout_s)

    def tend(self, timeout_s: float) -> None:
        """Look after the attempts for at most `timeout_s`: time limits hold, and the next `wait` has what happened."""
        self._kept += self._next_events(timeout_s)

    def _next_events(self, timeout_s: float) -> list[Event]:
        deadline = time.monotonic() + timeout_s
        while True:
            self._kill_overdue()
            events = self._collected(deadline)
            if events or time.monotonic() >= deadline:
                return events

    def answer(self, job_id: str, *, prune: bool) -> None:
        """Let a trial that reported go on, or tell it to stop. Unknown and ended jobs are ignored."""
        if (job := self._jobs.get(job_id)) is not None:
            self._send(job, Answer(prune))

    def cancel(self, job_id: str) -> None:
        """Kill an attempt with everything it started; its `Ended` has state `cancelled` unless it was over already."""
        if (job := self._jobs.get(job_id)) is not None and job.outcome is None:
            self._kill(job, ("cancelled", "cancelled"))

    def close(self) -> None:
        """Kill what still runs and free everything; no events follow."""
        self._launcher.close()
        for job in self._jobs.values():
            _hang_up(job)
            _leave(job, keep=False)
        self._jobs.clear()
        self._kept.clear()

    def _collected(self, deadline: float) -> list[Event]:
        events: list[Event] = []
        pipes = {job.pipe: job for job in self._jobs.values() if job.pipe is not None}
        until = min([deadline, self._launcher.due, *(job.due for job in self._jobs.values())])
        ready = wait([*pipes, *self._launcher.waitables()], max(0.0, until - time.monotonic()))
        for change in self._launcher.changes():
            job = self._jobs[change.job_id]
            if isinstance(change, Started):
                job.started = change.at
                job.due = change.at + (job.task.timeout_s or float("inf"))
            elif isinstance(change, Exceeded):
                job.killed_as = job.killed_as or change.verdict
            else:
                events += self._buried(job, change)
        for pipe, job in pipes.items():
            if pipe in ready:
                events += self._heard(job)
        return events

    def _heard(self, job: _Job) -> list[Event]:
        if job.pipe is None:
            return []
        try:
            message = decoded_from_worker(job.pipe.recv_bytes(MESSAGE_LIMIT))
        except (EOFError, ConnectionResetError):  # its exit follows, and says more
            _hang_up(job)
        except (ValueError, OSError) as exc:
            _hang_up(job)
            self._kill(job, ("failed", f"the trial wrote to the pipe of its worker: {exc}"))
        else:
            return self._understood(job, message)
        return []

    def _understood(self, job: _Job, message: FromWorker) -> list[Event]:
        if isinstance(message, Report):
            return [Reported(job.task.job_id, message.step, message.value, message.running)]
        if isinstance(message, Charge):
            return [Charged(job.task.job_id, message.usd)]
        job.outcome = message
        job.due = time.monotonic() + EXIT_GRACE_S
        return []

    def _buried(self, job: _Job, exited: Exited) -> list[Event]:
        events: list[Event] = []
        while job.pipe is not None and job.pipe.poll():  # what it said before it died
            events += self._heard(job)
        _hang_up(job)
        del self._jobs[job.task.job_id]
        state, error = _verdict(job, exited.code)
        _leave(job, keep=self._keep_files or state not in _REMOVED)
        seconds = 0.0 if job.started is None else exited.at - job.started
        cpu_seconds = max(exited.cpu_seconds, job.outcome.cpu_seconds if job.outcome else 0.0)
        result = job.outcome.result if job.outcome else None
        return [*events, Ended(job.task.job_id, state, seconds, cpu_seconds, result, error)]

    def _kill_overdue(self) -> None:
        now = time.monotonic()
        for job in self._jobs.values():
            if job.due <= now:
                job.due = float("inf")
                self._kill(job, ("timeout", f"the trial took longer than {job.task.timeout_s or 0.0:g} s"))

    def _kill(self, job: _Job, verdict: Verdict) -> None:
        job.killed_as = job.killed_as or verdict
        self._launcher.kill(job.task.job_id)

    def _send(self, job: _Job, message: Answer | Assignment) -> None:
        if job.pipe is not None:
            with suppress(BrokenPipeError, ConnectionResetError):  # a death shows as an exit
                job.pipe.send_bytes(encoded(message))


def _leave(job: _Job, *, keep: bool) -> None:
    if job.folder is not None:
        job.folder.leave(keep=keep)


def _hang_up(job: _Job) -> None:
    if job.pipe is not None:
        job.pipe.close()
        job.pipe = None


def _verdict(job: _Job, code: int | None) -> Verdict:
    if job.outcome is not None:
        return job.outcome.state, job.outcome.error
    if job.killed_as is not None:
        return job.killed_as
    if code is None:
        return "lost", STARTER_DIED
    if code >= 0:
        return "failed", f"the trial's process ended with exit code {code} without returning a metric"
    name = _signal_name(-code)
    if name in _KILLED_FROM_OUTSIDE:
        return "lost", f"the trial's process was killed from outside: {name}"
    return "failed", f"signal {-code} ({name})"


def _signal_name(number: int) -> str:
    with suppress(ValueError):
        return signal.Signals(number).name
    return "unknown"
