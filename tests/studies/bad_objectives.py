"""Objectives of `test_bad_trials`: `one_of` does what its parameter `kind` says."""

import ctypes
import math
import os
import subprocess
import sys
import time
from pathlib import Path

from mcp_server.execution import TrialResult
from mcp_server.execution.trial import Trial


def one_of(trial: Trial) -> object:
    found = globals().get(str(trial.params["kind"]))
    return found(trial) if found else arrives_as_it_is(trial)


def good(trial: Trial) -> float:
    return 1.0


def fine(trial: Trial) -> float:
    return 2.0


def arrives_as_it_is(trial: Trial) -> float:
    return float(len(str(trial.params["kind"])))


def returns_nan(trial: Trial) -> float:
    return math.nan


def returns_inf(trial: Trial) -> float:
    return math.inf


def returns_minus_inf(trial: Trial) -> float:
    return -math.inf


def returns_text(trial: Trial) -> str:
    return "0.9"


def returns_none(trial: Trial) -> None:
    return None


def returns_a_list(trial: Trial) -> list[float]:
    return [0.9, 0.8]


def returns_too_many_folds(trial: Trial) -> TrialResult:
    return TrialResult(0.5, folds=[0.5] * 1_000_000)


def reports_a_step_twice(trial: Trial) -> float:
    trial.report(0.25, 0)
    trial.report(0.75, 0)
    return 0.5


def segfaults(trial: Trial) -> float:
    ctypes.string_at(0)
    return 0.0


def exits(trial: Trial) -> float:
    sys.exit(0)


def takes_memory(trial: Trial) -> float:
    held = [b"x" * 10**6 for _ in range(2000)]
    time.sleep(600)
    return float(len(held))


def asks_for_64_gb(trial: Trial) -> float:
    return float(len(b"x" * (64 * 10**9)))


def never_returns(trial: Trial) -> float:
    subprocess.Popen([sys.executable, "-I", "-S", "-c", "import time; time.sleep(600)"])
    while True:
        time.sleep(600)


def prints_a_gigabyte(trial: Trial) -> float:
    block = b"x" * 2**20
    for _ in range(1024):
        left = block
        while left:
            left = left[os.write(1, left) :]
    return 3.0


def fills_the_disk(trial: Trial) -> float:
    for number in range(50):
        Path(f"{number}.bin").write_bytes(b"x" * 10**6)
    time.sleep(600)
    return 0.0


def writes_one_large_file(trial: Trial) -> float:
    with Path("large.bin").open("wb") as file:
        for _ in range(50):
            file.write(b"x" * 10**6)
    return 0.0


def forks_and_leaves(trial: Trial) -> float:
    """A hundred processes, every other one a daemon."""
    for number in range(100):
        if os.fork() == 0:
            if number % 2:
                os.setsid()
                if os.fork():
                    os._exit(0)
            time.sleep(600)
            os._exit(0)
    return 3.0


def tells_its_environment(trial: Trial) -> float:
    """Its own, and that of its parent, as it is when a process starts."""
    parent = Path(f"/proc/{os.getppid()}/environ").read_text(encoding="utf-8")
    told = [f"{name} {value}" for name, value in os.environ.items()]
    Path(str(trial.payload["folder"]), "environment").write_text("\n".join([*told, parent]), encoding="utf-8")
    return 3.0


def leaves_a_link(trial: Trial) -> float:
    Path("model").symlink_to(str(trial.payload["folder"]))
    return 3.0


def prints_a_message_of_the_protocol(trial: Trial) -> float:
    sys.stdout.write('{"jsonrpc": "2.0", "id": 1, "result": {"content": []}}\n')
    return 3.0
