"""Objectives that take more than is good for a machine, for tests of limits; each ends by itself in ten minutes."""

import multiprocessing
import os
import tempfile
import time
from pathlib import Path

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
    os.umask(0o777)
    Path("closed/inner").mkdir(parents=True)
    if trial.payload["fail"]:
        raise ValueError("no good")
    return float(len(list(Path.cwd().iterdir())))


def listen_on_a_socket(trial: Trial) -> float:
    """Start a manager of `multiprocessing`, which listens on a socket among the temporary files."""
    with multiprocessing.get_context("fork").Manager() as manager:
        manager.list([1])
    return noop(trial)
