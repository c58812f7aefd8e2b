"""The process that workers are forked from: imports done once, a clean process per trial, nothing left behind.

It is single-threaded and never runs a trial's code, so a fork of it is safe and costs milliseconds. It is the parent of
the workers, and adopts what they leave: when a worker ends, every child that it did not fork itself is a leftover of an
ended trial (living trials adopt their own orphans) and is killed. When its executor's end of the channel closes, for
whatever reason, it kills everything and ends.

`multiprocessing`'s fork server would not do: there is one per process, it imports `__main__`, hides failed imports,
and neither sweeps up orphans nor tells how a worker died.
"""

import contextlib
import errno
import gc
import importlib
import json
import logging
import os
import signal
import socket
import sys
import time
import traceback
from collections.abc import Sequence
from multiprocessing.connection import Connection, wait
from pathlib import Path
from typing import NoReturn

from mcp_server.execution import worker
from mcp_server.execution._messages import WorkerOrder
from mcp_server.execution.run_folder import RunFolder
from mcp_server.execution.trial_log import Output
from mcp_server.execution.watch import Watch
from mcp_server.processes import adopt_orphans, children, die_with_parent, kill_tree
from mcp_server.types import JsonObject

PRELOAD_LIMIT_S = 300
SWEEP_LIMIT_S = 5.0
FOREVER_S = 3600.0
_FAILED_EXIT_CODE = 70
_log = logging.getLogger(__name__)


class _Workers:
    """The children of this process: the workers by pid, and what they left to it."""

    def __init__(self, channel: socket.socket, woken: int) -> None:
        self._channel = channel
        self._woken = woken
        self._jobs: dict[int, str] = {}
        self._outputs: dict[str, Output] = {}
        self._folders: dict[str, RunFolder] = {}
        self._watch = Watch()

    @property
    def due(self) -> float:
        """When to call `check` again, on the monotonic clock."""
        return min([self._watch.due, *(output.due for output in self._outputs.values())])

    @property
    def outputs(self) -> dict[int, Output]:
        """What workers print, by the descriptor that becomes readable then, for `check`."""
        return {output.fileno(): output for output in self._outputs.values() if output.fileno() >= 0}

    def fork(self, order: WorkerOrder, pipes: Sequence[int]) -> None:
        """Start the worker that gets its task through the file descriptor in `pipes`."""
        server, output = os.getpid(), None
        try:
            output = _opened(order, pipes)
            pid = os.fork()
        except OSError as exc:
            self._refuse(order, pipes, output, exc)
            return
        if pid == 0:
            self._become_worker(server, pipes[0], output)
        os.close(pipes[0])
        os.close(output.theirs)
        self._outputs[order.job_id] = output
        self._jobs[pid] = order.job_id
        self._watch.add(order, pid)
        if order.folder is not None:
            self._folders[order.job_id] = RunFolder(Path(order.folder))
        self._tell({"started": order.job_id, "at": time.monotonic()})

    def _refuse(self, order: WorkerOrder, pipes: Sequence[int], output: Output | None, exc: OSError) -> None:
        for pipe in pipes:
            os.close(pipe)
        if output is not None:
            os.close(output.theirs)
            output.finish()
        why = f"no process could be started for the trial: {exc}"
        self._tell({"exceeded": order.job_id, "state": "lost", "why": why})
        self._tell({"ended": order.job_id, "at": time.monotonic(), "code": None, "cpu_seconds": 0.0})

    def kill(self, job_id: str) -> None:
        """Kill the worker of a job with all it started."""
        for pid, job in self._jobs.items():
            if job == job_id:
                kill_tree(pid)

    def check(self, printed: Sequence[Output]) -> None:
        """Take what workers printed, and kill those that take more than they may."""
        for output in printed:
            output.take()
        for output in self._outputs.values():
            output.flush()
        for job_id, (state, why) in self._watch.exceeded():
            self._tell({"exceeded": job_id, "state": state, "why": why})
            self.kill(job_id)

    def reap(self) -> None:
        """Tell of the workers that have ended, when nothing of them is left."""
        ended = self._reaped()
        if ended:
            ended += self._swept()
        for report in ended:
            job_id = str(report["ended"])
            self._outputs.pop(job_id).finish()
            folder = self._folders.pop(job_id, None)
            if folder is not None and report["code"] == worker.ORPHANED_EXIT_CODE:
                folder.leave(keep=False)
            self._tell(report)

    def close(self) -> None:
        """Kill every worker and all they started."""
        for pid in self._jobs:
            kill_tree(pid)
        self._jobs.clear()
        self._swept()
        for output in self._outputs.values():
            output.finish()
        for folder in self._folders.values():  # whoever would see to it may be dead
            folder.leave(keep=False)

    def _swept(self) -> list[JsonObject]:
        """Kill every child that is not a worker; the workers that ended meanwhile."""
        ended: list[JsonObject] = []
        deadline = time.monotonic() + SWEEP_LIMIT_S
        while (
            leftovers := [pid for pid in children(os.getpid()) if pid not in self._jobs]
        ) and time.monotonic() < deadline:
            for pid in leftovers:
                kill_tree(pid)
            time.sleep(0.001)
            ended += self._reaped()
        return ended

    def _become_worker(self, server: int, pipe: int, output: Output) -> NoReturn:
        try:
            signal.set_wakeup_fd(-1)
            signal.signal(signal.SIGCHLD, signal.SIG_DFL)
            self._channel.close()
            for unneeded in (self._woken, output.fileno(), *self.outputs):
                os.close(unneeded)
            die_with_parent(server)
            _volunteer_for_out_of_memory()
            worker.main(Connection(pipe), Connection(output.theirs, readable=False))
        finally:
            traceback.print_exc()  # the worker does not return, so this is a bug
            os._exit(_FAILED_EXIT_CODE)

    def _reaped(self) -> list[JsonObject]:
        ended: list[JsonObject] = []
        with contextlib.suppress(ChildProcessError):
            while (child := os.wait4(-1, os.WNOHANG))[0] != 0:
                pid, status, used = child
                if (job_id := self._jobs.pop(pid, None)) is not None:
                    self._watch.drop(job_id)
                    code = os.waitstatus_to_exitcode(status)
                    cpu_seconds = used.ru_utime + used.ru_stime
                    ended.append({"ended": job_id, "at": time.monotonic(), "code": code, "cpu_seconds": cpu_seconds})
        return ended

    def _tell(self, message: JsonObject) -> None:
        with contextlib.suppress(BrokenPipeError, ConnectionResetError):  # the main loop sees the end of the channel
            self._channel.send(json.dumps(message).encode())


def _opened(order: WorkerOrder, pipes: Sequence[int]) -> Output:
    if not pipes:  # the system had no descriptor left for the one that was sent
        raise OSError(errno.EMFILE, os.strerror(errno.EMFILE))
    return Output(Path(order.log_path))


def _volunteer_for_out_of_memory() -> None:
    # When memory runs out the kernel should take a trial, which is retried, and not the runner.
    with contextlib.suppress(OSError):
        Path("/proc/self/oom_score_adj").write_text("1000")


def _preload(modules: Sequence[str]) -> None:
    # An import that hangs ends this process by SIGALRM; the executor then starts it again without preloading.
    signal.alarm(PRELOAD_LIMIT_S)
    for module in modules:
        try:
            importlib.import_module(module)
        except ImportError as exc:
            _log.warning("cannot preload %s, its trials will import it themselves: %s", module, exc)
    signal.alarm(0)
    # What is here stays shared with the workers, unless their garbage collector writes to it.
    gc.collect()
    gc.freeze()


def _serve(channel: socket.socket) -> None:
    woken, wake = os.pipe()
    for end in (woken, wake):
        os.set_blocking(end, False)
    signal.signal(signal.SIGCHLD, lambda *_: None)
    signal.set_wakeup_fd(wake, warn_on_full_buffer=False)
    workers = _Workers(channel, woken)
    while True:
        pause = workers.due - time.monotonic()
        outputs = workers.outputs
        ready = wait([channel, woken, *outputs], max(0.0, pause) if pause < FOREVER_S else None)
        if woken in ready:
            os.read(woken, 4096)
            workers.reap()
        workers.check([output for descriptor, output in outputs.items() if descriptor in ready])
        if channel in ready and not _obey(channel, workers):
            break
    workers.close()


def _obey(channel: socket.socket, workers: _Workers) -> bool:
    try:
        data, descriptors, _, _ = socket.recv_fds(channel, 65536, 1)
    except ConnectionResetError:  # it closed with our messages unread
        return False
    if not data:
        return False
    request = json.loads(data)
    if "kill" in request:
        workers.kill(request["kill"])
    else:
        workers.fork(WorkerOrder(**request["fork"]), descriptors)
    return True


def main() -> None:
    """Serve the executor at the other end of the socket whose descriptor is the first argument."""
    channel = socket.socket(fileno=int(sys.argv[1]))
    adopt_orphans()
    _preload(sys.argv[2:])
    channel.send(b'{"ready": true}')
    _serve(channel)


if __name__ == "__main__":
    main()
