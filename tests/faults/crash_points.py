"""Every place where a process can die: `strace` counts its writes and syncs, and kills it at the one that is asked for.

Not with `--seccomp-bpf`: then strace injects nothing, and every sweep passes. A kill is therefore always asserted.
"""

import re
import shutil
import subprocess
import sys
from collections import Counter
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import NamedTuple

import pytest

WRITES = ("pwrite64", "fdatasync")
PATIENCE_S = 120.0


class Point(NamedTuple):
    """A thread of the process makes this system call for the `time`-th time; `strace` counts each call by itself."""

    call: str
    time: int


@cache
def _why_not() -> str | None:
    if shutil.which("strace") is None:
        return "strace is not installed"
    tried = subprocess.run(["strace", "-b", "execve", "-e", "trace=none", "true"], capture_output=True, check=False)
    return None if tried.returncode == 0 else f"strace may not trace here: {tried.stderr.decode().strip()[:120]}"


def needs_strace() -> None:
    """Skip the test where processes cannot be traced."""
    if reason := _why_not():
        pytest.skip(reason)


def tracing(log: Path, calls: Sequence[str], *, at: Point | None = None, file: Path | None = None) -> list[str]:
    """The words before a command, or before `-p PID`, that trace its threads and not what it starts.

    With `at` the process is killed there. `file` leaves out the calls on other files than this database: threads that
    write to different ones are swept one after the other, because each thread is counted by itself.
    """
    words = ["strace", "-f", "-b", "execve", "-o", str(log), "-e", f"trace={','.join(calls)}", "-e", "signal=SIGKILL"]
    if file is not None:
        words += ["-P", str(file), "-P", f"{file}-wal", "-P", f"{file}-journal"]
    if at is not None:
        words += ["-e", f"inject={at.call}:signal=SIGKILL:when={at.time}"]
    return words


def points(log: Path) -> list[Point]:
    """Every point that a traced process came by. One thread must have made all the calls."""
    made: dict[str, Counter[str]] = {}
    for line in log.read_text(errors="replace").splitlines():
        if found := re.match(r"(\d+) +(\w+)\(", line):
            made.setdefault(found[1], Counter())[found[2]] += 1
    assert len(made) == 1, f"not one thread made the calls, and each is counted by itself: {made}"
    (calls,) = made.values()
    return [Point(call, time) for call in sorted(calls) for time in range(1, calls[call] + 1)]


def was_killed(log: Path) -> bool:
    """Whether the traced process died of SIGKILL."""
    return "+++ killed by SIGKILL +++" in log.read_text(errors="replace")


def run(module: str, arguments: Sequence[str], words: Sequence[str]) -> int:
    """The exit status of `python -m module arguments` behind the words of `tracing`."""
    command = [*words, sys.executable, "-m", module, *arguments]
    done = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, timeout=PATIENCE_S, check=False)
    return done.returncode
