"""How a worker process comes to be: forked from a prepared process on Linux, spawned elsewhere."""

import json
import multiprocessing
import os
import socket
import subprocess
import sys
import threading
import time
import uuid
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass
from multiprocessing import resource_tracker
from multiprocessing.connection import Connection, wait
from pathlib import Path
from typing import Protocol

from mcp_server.execution import worker
from mcp_server.execution._messages import WorkerOrder
from mcp_server.execution.trial_log import FLUSH_S, Output
from mcp_server.execution.watch import Verdict, Watch
from mcp_server.processes import kill_marked, kill_tree

JOB = "TUNING_JOB"
"""Names, in the environment of all that a spawned worker starts, the job of that worker."""


@dataclass(frozen=True, slots=True)
class Started:
    """The worker of a job runs, since `at` on the monotonic clock."""

    job_id: str
    at: float


@dataclass(frozen=True, slots=True)
class Exited:
    """The worker of a job is gone, since `at`; `code` is -N after signal N and None when nobody knows."""

    job_id: str
    at: float
    code: int | None
    cpu_seconds: float = 0.0


@dataclass(frozen=True, slots=True)
class Exceeded:
    """The worker of a job took more than it may, and is killed for it."""

    job_id: str
    verdict: Verdict


Change = Started | Exited | Exceeded


class Launcher(Protocol):
    """Starts, watches and kills workers, and tells when they are gone."""

    @property
    def due(self) -> float:
        """When to call `changes` even if nothing became readable, on the monotonic clock."""

    def start(self, order: WorkerOrder, pipe: Connection) -> None:
        """Start a worker that gets its task from `pipe`."""

    def kill(self, job_id: str) -> None:
        """Kill the worker of a job with all it started."""

    def waitables(self) -> Sequence[int]:
        """What becomes readable when there are changes."""

    def changes(self) -> list[Change]:
        """What happened since the last call; each started job has one `Exited`."""

    def close(self) -> None:
        """Kill all workers."""


class ForkLauncher:
    """Workers as forks of a process that has done the imports (`execution.fork_server`); Linux.

    The process starts with the launcher, so that its imports go on while the caller does other things. If it dies, its
    workers die with it, and the next start brings up another.
    """

    def __init__(self, environment: Mapping[str, str], preload: Sequence[str]) -> None:
        self._environment = dict(environment)
        self._preload = list(preload)
        self._jobs: set[str] = set()
        self._ready = False
        self._channel, self._process = self._opened()

    @property
    def due(self) -> float:
        """See `Launcher`; the process that forks has a watch of its own."""
        return float("inf")

    def start(self, order: WorkerOrder, pipe: Connection) -> None:
        """See `Launcher`."""
        if self._channel.fileno() < 0:
            self._channel, self._process = self._opened()
        self._jobs.add(order.job_id)
        # A broken pipe shows in `changes`, as the end of the channel.
        with suppress(BrokenPipeError, ConnectionResetError):
            socket.send_fds(self._channel, [json.dumps({"fork": asdict(order)}).encode()], [pipe.fileno()])

    def kill(self, job_id: str) -> None:
        """See `Launcher`."""
        with suppress(OSError):  # no server, no worker
            self._channel.send(json.dumps({"kill": job_id}).encode())

    def waitables(self) -> Sequence[int]:
        """See `Launcher`."""
        return [self._channel.fileno()] if self._channel.fileno() >= 0 else []

    def changes(self) -> list[Change]:
        """See `Launcher`."""
        changes: list[Change] = []
        while self._channel.fileno() >= 0:
            try:
                data = self._channel.recv(65536, socket.MSG_DONTWAIT)
            except BlockingIOError:
                break
            except ConnectionResetError:
                data = b""
            changes += self._understood(data) if data else self._lost()
        return changes

    def close(self) -> None:
        """See `Launcher`."""
        self._channel.close()  # its end tells the server to kill all and end
        try:
            self._process.wait(timeout=10.0)
        except subprocess.TimeoutExpired:
            kill_tree(self._process.pid)
            self._process.wait()

    def _opened(self) -> tuple[socket.socket, subprocess.Popen[bytes]]:
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        module = [sys.executable, "-P", "-m", "mcp_server.execution.fork_server", str(theirs.fileno())]
        with theirs:
            process = subprocess.Popen(  # noqa: S603 - our own interpreter and module
                [*module, *self._preload],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                env=self._environment,
                pass_fds=[theirs.fileno()],
                start_new_session=True,
            )
        return ours, process

    def _understood(self, data: bytes) -> list[Change]:
        message = json.loads(data)
        if "started" in message:
            return [Started(message["started"], message["at"])]
        if "exceeded" in message:
            return [Exceeded(message["exceeded"], (message["state"], message["why"]))]
        if "ended" in message:
            self._jobs.discard(message["ended"])
            return [Exited(message["ended"], message["at"], message["code"], message["cpu_seconds"])]
        self._ready = True
        return []

    def _lost(self) -> list[Change]:
        self._channel.close()
        kill_tree(self._process.pid)
        self._process.wait()
        if not self._ready:
            self._preload = []  # perhaps an import killed it
        lost, self._jobs = self._jobs, set()
        return [Exited(job_id, time.monotonic(), None) for job_id in lost]


class SpawnLauncher:
    """Workers as fresh interpreters, through `multiprocessing`; any system, and as slow as a trial's imports.

    Where nobody adopts orphans, what a trial left is found by a mark in its environment; a daemon that was started with
    an environment of its own is not.
    """

    def __init__(self, environment: Mapping[str, str]) -> None:
        if sys.platform != "win32":  # or the first trial would start it, and take it along
            resource_tracker.ensure_running()
        self._environment = dict(environment)
        self._context = multiprocessing.get_context("spawn")
        self._processes: dict[str, multiprocessing.process.BaseProcess] = {}
        self._started: list[Started] = []
        self._copiers: dict[str, _Copier] = {}
        self._watch = Watch()
        self._id = uuid.uuid4().hex  # other launchers may have jobs of the same name

    @property
    def due(self) -> float:
        """See `Launcher`."""
        return self._watch.due

    def start(self, order: WorkerOrder, pipe: Connection) -> None:
        """See `Launcher`."""
        copier = _Copier(order.log_path) if sys.platform != "win32" else None  # no waiting for a pipe there
        arguments = (pipe, copier and copier.theirs, {**self._environment, JOB: self._mark(order.job_id)})
        process = self._context.Process(target=worker.main, args=arguments, name=f"trial {order.job_id}")
        with _marked(self._mark(order.job_id)):
            process.start()
        if copier is not None:
            copier.start()
            self._copiers[order.job_id] = copier
        self._processes[order.job_id] = process
        if process.pid is not None:
            self._watch.add(order, process.pid)
        self._started.append(Started(order.job_id, time.monotonic()))

    def kill(self, job_id: str) -> None:
        """See `Launcher`."""
        process = self._processes.get(job_id)
        if process is not None and process.pid is not None:
            kill_tree(process.pid)

    def waitables(self) -> Sequence[int]:
        """See `Launcher`."""
        return [process.sentinel for process in self._processes.values()]

    def changes(self) -> list[Change]:
        """See `Launcher`."""
        changes: list[Change] = [*self._started]
        self._started.clear()
        for job_id, verdict in self._watch.exceeded():
            changes.append(Exceeded(job_id, verdict))
            self.kill(job_id)
        for job_id, process in list(self._processes.items()):
            if process.exitcode is not None:
                del self._processes[job_id]
                self._watch.drop(job_id)
                self._sweep(job_id, process)
                self._finish_log(job_id)
                changes.append(Exited(job_id, time.monotonic(), process.exitcode))
        return changes

    def close(self) -> None:
        """See `Launcher`."""
        for job_id, process in self._processes.items():
            self.kill(job_id)
            process.join()
            self._sweep(job_id, process)
            self._finish_log(job_id)
        self._processes.clear()

    def _finish_log(self, job_id: str) -> None:
        if (copier := self._copiers.pop(job_id, None)) is not None:
            copier.finish()

    def _mark(self, job_id: str) -> str:
        return f"{self._id}/{job_id}"

    def _sweep(self, job_id: str, process: multiprocessing.process.BaseProcess) -> None:
        kill_marked(JOB, self._mark(job_id))
        if sys.platform != "win32" and process.pid is not None:
            with suppress(ProcessLookupError, PermissionError):
                os.killpg(process.pid, 9)


@contextmanager
def _marked(mark: str) -> Iterator[None]:
    # What a process was started with can be read from outside, what it sets later cannot.
    os.environ[JOB] = mark
    try:
        yield
    finally:
        del os.environ[JOB]


class _Copier:
    """A thread of this process that brings what one trial prints to its log."""

    def __init__(self, log_path: str) -> None:
        self._output = Output(Path(log_path))
        self.theirs = Connection(self._output.theirs, readable=False)
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._copy, name=f"log {log_path}", daemon=True)

    def start(self) -> None:
        """Begin, now that the trial has its end of the pipe."""
        self.theirs.close()
        self._thread.start()

    def finish(self) -> None:
        """Take what is left, now that the trial is gone."""
        self._ended.set()
        self._thread.join()
        self._output.finish()

    def _copy(self) -> None:
        while not self._ended.is_set() and self._output.fileno() >= 0:
            if wait([self._output.fileno()], FLUSH_S):
                self._output.take()
            self._output.flush()
