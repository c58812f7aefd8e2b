"""Processes that outlive or serve this one: detached runners, companions that answer questions, whole-tree kills."""

import json
import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, cast

import psutil

from mcp_server import errors
from mcp_server.errors import BackendUnavailableError, DeadlineExceededError, WorkspaceError
from mcp_server.types import JsonObject, shown

_LAUNCHER = """
import subprocess, sys

log, flags, *command = sys.argv[1:]
for each in map(int, flags.split(",")):
    try:
        process = subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=open(log, "ab"), stderr=subprocess.STDOUT, start_new_session=True,
            creationflags=each,
        )
    except PermissionError as exc:  # Windows: the job that this process is in lets nobody out
        reason = exc
    else:
        print(process.pid)
        break
else:
    raise reason
"""
_NO_CONSOLE = 0x0000_0008  # DETACHED_PROCESS
_NEW_GROUP = 0x0000_0200  # CREATE_NEW_PROCESS_GROUP
_OUT_OF_JOB = 0x0100_0000  # CREATE_BREAKAWAY_FROM_JOB
_THREADS = (
    "OMP_NUM_THREADS",
    "OPENBLAS_NUM_THREADS",
    "MKL_NUM_THREADS",
    "NUMEXPR_NUM_THREADS",
)
OWNER = "TUNING_OWNER"
"""Names, in the environment of all that a runner starts, the folder of its study; a detached process has no owner."""

_SIGKILL = 9  # not in `signal` on Windows
_SWEEPS = 5
_PR_SET_PDEATHSIG = 1
_PR_SET_CHILD_SUBREAPER = 36


def thread_caps(threads: int) -> dict[str, str]:
    """The environment that keeps numeric libraries to `threads` threads; it must be set before they are imported.

    Without the passive wait policy two processes of two OpenMP threads run 30 to 60 times slower on two busy cores.
    """
    return {"OMP_WAIT_POLICY": "PASSIVE", **dict.fromkeys(_THREADS, str(threads))}


def detaching_flags(platform: str = sys.platform) -> list[int]:
    """The creation flags by which a process is detached, in the order in which to try them.

    On Windows a client may hold its servers in a job that ends all in it; not every job lets a process out. One that
    must stay in dies with its client, and the next server starts another. Other systems have no such flags.
    """
    if platform != "win32":
        return [0]
    return [_NO_CONSOLE | _NEW_GROUP | _OUT_OF_JOB, _NO_CONSOLE | _NEW_GROUP]


def spawn_detached(
    module: str, arguments: Sequence[str], *, log: Path, folder: Path, environment: Mapping[str, str] | None = None
) -> int:
    """The pid of `python -m module arguments...`, which no death of this process or its client's clean-up reaches.

    It gets its own session (a group kill misses it), init as its parent (a walk up the parent pids misses it), and
    files instead of inherited pipes (a client that waits for their end is not held up). On Windows it leaves the
    console and, where that is allowed, the job of its client.

    Raises:
        BackendUnavailableError: If the system starts no process, or `log` cannot be written.
    """
    log.parent.mkdir(parents=True, exist_ok=True)
    command = [sys.executable, "-m", module, *arguments]
    flags = ",".join(map(str, detaching_flags()))
    launcher = [sys.executable, "-I", "-S", "-c", _LAUNCHER, str(log), flags, *command]
    variables = {**child_environment(), OWNER: "", **(environment or {})}
    done = subprocess.run(  # noqa: S603 - our own interpreter and module
        launcher, stdin=subprocess.DEVNULL, capture_output=True, cwd=folder, env=variables, check=False
    )
    if done.returncode:
        reason = done.stderr.decode(errors="replace").strip().rpartition("\n")[2]
        raise BackendUnavailableError(f"A process of {module} cannot be started: {reason}.", hint="Try again later.")
    return int(done.stdout)


def child_environment() -> dict[str, str]:
    """The environment for `python -m` of a module of this package, which it finds even in a source tree."""
    root = str(Path(__file__).parent.parent)
    inherited = os.environ.get("PYTHONPATH", "")
    return {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, [root, inherited])), "PYTHONUNBUFFERED": "1"}


def adopt_orphans() -> None:
    """Make this process the parent of every orphan among its descendants, so that a daemon cannot leave the tree.

    Linux only (`prctl(2)`, PR_SET_CHILD_SUBREAPER); elsewhere nothing happens.
    """
    _process_control(_PR_SET_CHILD_SUBREAPER, 1)


def die_with_parent(parent: int) -> None:
    """Have the kernel kill this process when `parent`, which started it, dies.

    Linux only (`prctl(2)`, PR_SET_PDEATHSIG). The parent must have started it from its main thread: the death of the
    starting thread counts.
    """
    _process_control(_PR_SET_PDEATHSIG, _SIGKILL)
    if os.getppid() != parent:  # it died before the call above
        os._exit(1)


def _process_control(option: int, value: int) -> None:
    if sys.platform == "linux":
        import ctypes

        ctypes.CDLL(None, use_errno=True).prctl(option, value, 0, 0, 0)


def children(pid: int) -> list[int]:
    """The processes whose parent is `pid`; none when it is gone."""
    with suppress(psutil.Error):
        try:
            tasks = list(Path(f"/proc/{pid}/task").iterdir())
            return [int(child) for task in tasks for child in _words(task / "children")]
        except FileNotFoundError:  # it is gone, or this is no Linux with CONFIG_PROC_CHILDREN
            return [child.pid for child in psutil.Process(pid).children()]
    return []


def _words(path: Path) -> list[str]:
    with suppress(ProcessLookupError):  # a thread that ended meanwhile
        return path.read_text(encoding="ascii").split()
    return []


def kill_tree(pid: int) -> None:
    """Kill `pid`, its descendants and its process group; all are gone, or dying, when it returns.

    A descendant that made itself a daemon is found if `pid` called `adopt_orphans`.
    """
    with suppress(psutil.NoSuchProcess):
        root = psutil.Process(pid)
        _signal(root, "suspend")
        kill_descendants(pid)
        _signal(root, "kill")
    if sys.platform != "win32" and pid != os.getpgrp():
        with suppress(ProcessLookupError, PermissionError):
            os.killpg(pid, _SIGKILL)


def kill_descendants(pid: int) -> None:
    """Kill what `pid` started and what that started, and leave `pid` alone."""
    root = psutil.Process(pid)
    stopped: set[psutil.Process] = set()
    # All are stopped before any is killed, because a stopped process cannot fork away from the sweep.
    while found := {child for child in root.children(recursive=True) if child not in stopped}:
        for child in found:
            _signal(child, "suspend")
        stopped |= found
    for child in stopped:
        _signal(child, "kill")


def kill_marked(name: str, value: str) -> None:
    """Kill every process of this user that was started with the environment variable `name` set to `value`.

    It finds what `kill_tree` cannot: daemons of a process that is gone, on a system where nobody adopts orphans.
    """
    for _ in range(_SWEEPS):  # one that starts others may be faster than the first sweep
        found = [process for process in psutil.process_iter() if _is_marked(process, name, value)]
        if not found:
            return
        for process in found:
            _signal(process, "suspend")
        for process in found:
            _signal(process, "kill")


def _is_marked(process: psutil.Process, name: str, value: str) -> bool:
    try:
        return process.status() != psutil.STATUS_ZOMBIE and process.environ().get(name) == value
    except (psutil.Error, OSError):
        return False


def _signal(process: psutil.Process, action: Literal["suspend", "kill"]) -> None:
    with suppress(psutil.NoSuchProcess, psutil.AccessDenied):
        process.suspend() if action == "suspend" else process.kill()


@dataclass(frozen=True)
class OwnedProcess:
    """A process that the runner of a study started, or that runner itself."""

    owner: Path
    process: psutil.Process
    command: str
    is_runner: bool


def owned_processes(folder: Path) -> list[OwnedProcess]:
    """The processes of this user whose owner lies in `folder`, whatever became of their parents."""
    found = []
    for process in psutil.process_iter():
        with suppress(psutil.Error):
            owner = process.environ().get(OWNER)
            if owner and Path(owner).parent == folder:
                words = process.cmdline()
                is_runner = "mcp_server.studies" in words
                found.append(OwnedProcess(Path(owner), process, shown(" ".join(words)), is_runner))
    return found


class Companion:
    """A child process that answers requests with the heavy libraries this process must not import.

    Started on first use, restarted after a death, ended with this process (its stdin closes). One request at a time
    per companion; a request is one JSON line `{"call": name, "arguments": {...}}`, an answer one JSON line.
    """

    def __init__(self, module: str, arguments: Sequence[str], *, log: Path, environment: Mapping[str, str]) -> None:
        self._command = [sys.executable, "-m", module, *arguments]
        self._log = log
        self._extra = dict(environment)
        self._process: subprocess.Popen[bytes] | None = None
        self._turn = threading.Lock()

    def warm_up(self) -> None:
        """Start the process so that the first question does not wait for its imports."""
        with self._turn:
            self._started()

    def ask(self, call: str, arguments: JsonObject, *, timeout_s: float = 40.0) -> JsonObject:
        """The answer of the handler `call`.

        Raises:
            WorkspaceError: As the handler raised it.
            DeadlineExceededError: If it takes longer than `timeout_s`; the process is replaced.
            BackendUnavailableError: If the process dies over the question.
        """
        until = time.monotonic() + timeout_s
        if not self._turn.acquire(timeout=timeout_s):
            raise DeadlineExceededError(f"Earlier requests took all of {timeout_s:g} s.", hint="Try again.")
        try:
            request = json.dumps({"call": call, "arguments": arguments}).encode() + b"\n"
            line = self._exchange(request, max(0.0, until - time.monotonic()))
        finally:
            self._turn.release()
        answer = cast("JsonObject", json.loads(line))
        if "error" in answer:
            raise _revived(cast("dict[str, str]", answer["error"]))
        return cast("JsonObject", answer["result"])

    def close(self) -> None:
        """End the process; the next question starts it again."""
        with self._turn:
            self._kill()

    def _started(self) -> subprocess.Popen[bytes]:
        if self._process is None or self._process.poll() is not None:
            self._log.parent.mkdir(parents=True, exist_ok=True)
            with self._log.open("ab") as log:
                self._process = subprocess.Popen(  # noqa: S603 - our own interpreter and module
                    self._command,
                    stdin=subprocess.PIPE,
                    stdout=subprocess.PIPE,
                    stderr=log,
                    env={**child_environment(), **self._extra},
                    start_new_session=True,
                )
        return self._process

    def _exchange(self, request: bytes, timeout_s: float) -> bytes:
        process = self._started()
        assert process.stdin is not None and process.stdout is not None  # noqa: S101, PT018 - both are PIPE
        too_late = threading.Event()  # a timer that is cancelled says that it is finished, too

        def stop() -> None:
            too_late.set()
            process.kill()

        late = threading.Timer(timeout_s, stop)
        late.start()
        try:
            process.stdin.write(request)
            process.stdin.flush()
            line = process.stdout.readline()
        except BrokenPipeError:
            line = b""
        finally:
            late.cancel()
        if line:
            return line
        self._kill()
        if too_late.is_set():
            raise DeadlineExceededError(
                f"The request took longer than {timeout_s:.3g} s.", hint="Try a smaller table, or try again."
            )
        raise BackendUnavailableError("The helper process died over this request.", hint=f"Its log is {self._log}.")

    def _kill(self) -> None:
        if self._process is None:
            return
        kill_tree(self._process.pid)
        self._process.communicate()
        self._process = None


def answer_requests(handlers: Mapping[str, Callable[[JsonObject], JsonObject]]) -> None:
    """Serve as a companion: answer requests from stdin until it closes.

    stdout carries the answers, so it is moved away from prints of the libraries first.
    """
    requests, answers = sys.stdin.buffer, os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)
    for line in requests:
        request = json.loads(line)
        try:
            answer = {"result": handlers[request["call"]](request["arguments"])}
        except WorkspaceError as exc:
            answer = {"error": {"type": type(exc).__name__, "message": exc.message, "hint": exc.hint}}
        answers.write(json.dumps(answer).encode() + b"\n")
        answers.flush()


def _revived(error: dict[str, str]) -> WorkspaceError:
    kind = getattr(errors, error["type"], WorkspaceError)
    return cast("WorkspaceError", kind(error["message"], hint=error["hint"]))
