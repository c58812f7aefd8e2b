"""Objectives that take more than is good for a machine, for tests of limits; each ends by itself in ten minutes."""

import multiprocessing
import os
import signal
import tempfile
import threading
import time
from contextlib import suppress
from pathlib import Path

from mcp_server.execution import TrialResult
from mcp_server.execution.trial import Trial
from mcp_server.testing.objectives import noop

_BLOCK = 10**6
_LONG_S = 600.0


def _count(trial: Trial, key: str) -> int:
    value = trial.payload[key]
    assert isinstance(value, int)
    return value


def _fill(n_mb: int) -> list[bytes]:
    return [b"x" * _BLOCK for _ in range(n_mb)]


def _fill_and_stay(n_mb: int) -> None:
    held = _fill(n_mb)
    time.sleep(_LONG_S)
    held.clear()


def hold_memory(trial: Trial) -> float:
    """Keep `payload["mb"]` megabytes for ten minutes, in `payload["children"]` children if there are any."""
    n_children = _count(trial, "children")
    share = _count(trial, "mb") // max(1, n_children)
    context = multiprocessing.get_context("fork")
    for _ in range(n_children):
        context.Process(target=_fill_and_stay, args=(share,)).start()
    if not n_children:
        _fill_and_stay(share)
    time.sleep(_LONG_S)
    return 0.0


def use_memory(trial: Trial) -> float:
    """Take `payload["mb"]` megabytes for `payload["seconds"]`, then give them back and return."""
    held = _fill(_count(trial, "mb"))
    time.sleep(_count(trial, "seconds"))
    held.clear()
    return noop(trial)


def ask_for_too_much(_trial: Trial) -> float:
    """Ask for 8 GB at once, and use them."""
    return float(len(b"x" * (8 * 10**9)))


def flood(trial: Trial) -> float:
    """Print `payload["mb"]` megabytes past Python, in lines of 100 bytes that begin with their number."""
    for megabyte in range(_count(trial, "mb")):
        lines = (b"%-99d\n" % (megabyte * 10_000 + line) for line in range(10_000))
        _write_all(b"".join(lines))
    return noop(trial)


def flood_blindly(trial: Trial) -> float:
    """Print `payload["mb"]` megabytes of the same, as fast as the system takes it."""
    block = b"x" * 10**6
    for _ in range(_count(trial, "mb")):
        _write_all(block)
    return noop(trial)


def _write_all(data: bytes) -> None:
    while data:
        data = data[os.write(1, data) :]


def flood_and_wait(trial: Trial) -> float:
    """Do as `flood`, print one line more, and wait until the file `payload["file"]` exists."""
    flood(trial)
    _write_all(b"still here\n")
    while not Path(str(trial.payload["file"])).exists():
        time.sleep(0.005)
    return noop(trial)


def fill_disk(trial: Trial) -> float:
    """Write `payload["mb"]` megabytes into the working directory, in files of `payload["each_mb"]`, and stay."""
    for number in range(_count(trial, "mb") // _count(trial, "each_mb")):
        with Path(f"{number}.bin").open("wb") as file:
            file.writelines([b"x" * _BLOCK] * _count(trial, "each_mb"))
    time.sleep(_LONG_S)
    return noop(trial)


def fill_disk_by_numpy(trial: Trial) -> float:
    """Write an array of `payload["mb"]` megabytes into the working directory."""
    import numpy as np

    np.save("array", np.zeros(_count(trial, "mb") * _BLOCK, dtype=np.uint8))
    return noop(trial)


def leave_files(trial: Trial) -> float:
    """Leave a file, one that is temporary, and a folder that is closed to its owner, then return or fail."""
    Path("model.txt").write_text("weights", encoding="utf-8")
    tempfile.mkstemp()
    before = os.umask(0o777)
    Path("closed/inner").mkdir(parents=True)
    os.umask(before)
    if trial.payload["fail"]:
        raise ValueError("no good")
    return float(len(list(Path.cwd().iterdir())))


def listen_on_a_socket(trial: Trial) -> float:
    """Start a manager of `multiprocessing`, which listens on a socket among the temporary files."""
    with multiprocessing.get_context("fork").Manager() as manager:
        manager.list([1])
    return noop(trial)


def fork_many(trial: Trial) -> float:
    """Fork `payload["processes"]` processes, every other one by a process in a session of its own, and leave them."""
    for number in range(_count(trial, "processes")):
        if os.fork() == 0:
            if number % 2 == 0:
                os.setsid()
                if os.fork() != 0:
                    os._exit(0)
            with Path(str(trial.payload["pids"])).open("a", encoding="ascii") as file:
                file.write(f"{os.getpid()} ")
            time.sleep(_LONG_S)
            os._exit(0)
    return noop(trial)


def start_many_threads(trial: Trial) -> float:
    """Start `payload["threads"]` threads that do not end, and return."""
    for _ in range(_count(trial, "threads")):
        threading.Thread(target=time.sleep, args=(_LONG_S,)).start()
    return noop(trial)


def ignore_signals(trial: Trial) -> float:
    """Ignore every signal that can be ignored, report the process id, and go on for ten minutes."""
    for number in signal.valid_signals() - {signal.SIGKILL, signal.SIGSTOP}:
        with suppress(OSError):
            signal.signal(number, signal.SIG_IGN)
    trial.report(os.getpid(), step=0)
    time.sleep(_LONG_S)
    return noop(trial)


def change_surroundings(trial: Trial) -> float:
    """Go elsewhere, forbid writing to new files, close what is printed to, and unset all variables."""
    os.chdir("/")
    os.umask(0o377)
    os.environ.clear()
    for descriptor in range(3):
        os.close(descriptor)
    return noop(trial)


def see_surroundings(trial: Trial) -> float:
    """What is forbidden to new files, if the working directory is empty and there is a PATH; -1 otherwise."""
    forbidden = os.umask(0)
    is_whole = {path.name for path in Path.cwd().iterdir()} <= {"tmp"} and "PATH" in os.environ
    return float(forbidden) if is_whole and trial.params else -1.0


def return_much(trial: Trial) -> TrialResult:
    """A result with `payload["folds"]` folds."""
    return TrialResult(0.5, folds=[0.5] * _count(trial, "folds"))
