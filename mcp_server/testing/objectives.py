"""Objectives for tests of executors and studies: fast, deterministic ones, and ones that misbehave.

Name one as `mcp_server.testing.objectives:noop`; what they read from `trial.payload` stands in their docstrings.
"""

import atexit
import contextlib
import ctypes
import json
import os
import subprocess
import sys
import time
import zlib
from pathlib import Path
from typing import NoReturn

from pydantic import JsonValue

from mcp_server.execution import TrialResult
from mcp_server.execution.trial import Trial, TrialPruned

NUMBER_AT_IMPORT = os.environ.get("OPTUNA_TRIAL_NUMBER")

_SLEEPER = [sys.executable, "-I", "-S", "-c", "import time; time.sleep(600)"]
_ODD_RESULTS: dict[str, object] = {
    "nan": float("nan"),
    "inf": float("inf"),
    "text": "0.9",
    "none": None,
    "list": [0.9],
    "bool": True,
    "huge": 10**400,
}
_DESCRIPTORS = 4096  # a process that has run many tests may have some hundred files open


def _number(trial: Trial, key: str, default: float = 0.0) -> float:
    value = trial.payload.get(key, default)
    assert isinstance(value, int | float)
    return float(value)


def _text(trial: Trial, key: str, default: str = "") -> str:
    value = trial.payload.get(key, default)
    assert isinstance(value, str)
    return value


def noop(trial: Trial) -> float:
    """A number in [0, 1) that depends on `trial.params` alone, at once."""
    return zlib.crc32(json.dumps(trial.params, sort_keys=True).encode()) / 2**32


def quadratic(trial: Trial) -> float:
    """The squared distance of the numeric parameters from 1; text counts by its length."""
    return sum((_coordinate(value) - 1.0) ** 2 for value in trial.params.values())


def _coordinate(value: JsonValue) -> float:
    return float(value) if isinstance(value, int | float) else float(len(str(value)))


def busy(trial: Trial) -> float:
    """Burn `payload["seconds"]` of processor time in pure Python."""
    end = time.process_time() + _number(trial, "seconds")
    count = 0
    while time.process_time() < end:
        count += sum(range(1000)) > 0
    return noop(trial)


def sleep(trial: Trial) -> float:
    """Do nothing for `payload["seconds"]`, as a trial does that waits for a service."""
    time.sleep(_number(trial, "seconds"))
    return noop(trial)


def count_up(trial: Trial) -> float:
    """Do `payload["rounds"]` rounds of a fixed amount of pure Python work; how long that takes is the machine's."""
    total = 0
    for _ in range(int(_number(trial, "rounds"))):
        total += sum(range(10_000)) % 7
    return float(total)


def wait_for_file(trial: Trial) -> float:
    """Report the process id as step 0, then wait until the file `payload["file"]` exists."""
    trial.report(os.getpid(), step=0)
    while not Path(_text(trial, "file")).exists():
        time.sleep(0.005)
    return noop(trial)


def report_values(trial: Trial) -> float:
    """Report each of `payload["values"]`, stop when told to, and return the last."""
    values = trial.payload["values"]
    assert isinstance(values, list)
    for step, value in enumerate(values):
        trial.report(value, step=step)  # type: ignore[arg-type]  # some tests report what is not a number
        if trial.should_prune():
            raise TrialPruned
    return values[-1]  # type: ignore[return-value]


def report_running(trial: Trial) -> float:
    """Report a value of 0.5 whose running score is 0.25, twice at the same step."""
    trial.report(0.5, step=3, running=0.25)
    trial.report(0.9, step=3, running=0.9)
    return 0.25


def charge(trial: Trial) -> float:
    """Charge 0.25 and then 1000 tokens of `small`, report, and die at once when `payload["then"]` is `exit`."""
    trial.charge(0.25)
    trial.charge(model="small", input_tokens=1000)
    if trial.payload.get("then") == "exit":
        os._exit(1)
    return noop(trial)


def fail(trial: Trial) -> NoReturn:
    """Raise a `ValueError` with `payload["message"]`."""
    raise ValueError(_text(trial, "message"))


def fail_allocation(_trial: Trial) -> NoReturn:
    """Run out of memory, as NumPy reports it."""
    raise MemoryError("Unable to allocate 64.0 GiB")


def return_oddity(trial: Trial) -> object:
    """Return what `payload["kind"]` names: `nan`, `inf`, `text`, `none`, `list`, `bool` or `huge`."""
    return _ODD_RESULTS[_text(trial, "kind")]


def return_parts(_trial: Trial) -> TrialResult:
    """A result with deviation, folds and metrics, one of which is not finite."""
    return TrialResult(0.5, std=0.25, folds=[0.25, 0.75], metrics={"seconds": 2.0, "auc": float("nan")})


def exit_early(_trial: Trial) -> NoReturn:
    """Call `sys.exit(0)`."""
    sys.exit(0)


def exit_at_once(trial: Trial) -> NoReturn:
    """End the process with `payload["code"]`, past all clean-up."""
    os._exit(int(_number(trial, "code")))


def segfault(_trial: Trial) -> float:
    """Read address 0."""
    ctypes.string_at(0)
    return 0.0


def hang_up(_trial: Trial) -> float:
    """Close every file of the process, as a daemon would."""
    os.closerange(3, _DESCRIPTORS)
    return 0.0


def scribble(_trial: Trial) -> float:
    """Write nonsense to every open file of the process, and go on for ten minutes."""
    for descriptor in range(3, _DESCRIPTORS):
        with contextlib.suppress(OSError):
            os.write(descriptor, b"\x00\x00\x00\x07nothing")
    time.sleep(600)
    return 0.0


def start_processes(trial: Trial) -> float:
    """Start a child and a daemon that left the session, write their ids to `payload["pids"]`, then do as told.

    `payload["then"]` is `return`, `sleep` or `die`.
    """
    child = subprocess.Popen(_SLEEPER)  # noqa: S603 - our own interpreter
    Path(_text(trial, "pids")).write_text(f"{child.pid} {_daemon()}")
    then = _text(trial, "then")
    if then == "sleep":
        time.sleep(600)
    if then == "die":
        segfault(trial)
    return 0.0


def _daemon() -> int:
    readable, writable = os.pipe()
    if (middle := os.fork()) == 0:
        os.setsid()
        process = subprocess.Popen(_SLEEPER, start_new_session=True)  # noqa: S603 - our own interpreter
        os.write(writable, str(process.pid).encode())
        os._exit(0)
    os.waitpid(middle, 0)
    return int(os.read(readable, 20))


def run_away(trial: Trial) -> float:
    """Leave a process that forks a successor in a session of its own and ends, again and again."""
    if os.fork() == 0:
        end = time.monotonic() + 60.0
        while time.monotonic() < end:
            if os.fork() != 0:
                os._exit(0)
            os.setsid()
    return noop(trial)


def linger(trial: Trial) -> float:
    """Return a value, and take ten minutes to clean up."""
    atexit.register(time.sleep, 600)
    return noop(trial)


def say(_trial: Trial) -> float:
    """Print to stdout, stderr and past Python, then die without flushing."""
    print("from stdout")  # noqa: T201 - that is the point
    print("from stderr", file=sys.stderr)  # noqa: T201 - that is the point
    os.write(1, b"from below\n")
    os._exit(3)


def print_lines(trial: Trial) -> float:
    """Print `payload["lines"]` lines of 100 bytes, each of which begins with its number."""
    for number in range(int(_number(trial, "lines"))):
        print(f"{number:<99}")  # noqa: T201 - that is the point
    return noop(trial)


def environment(trial: Trial) -> float:
    """The environment variable `payload["variable"]` as a number, or -1."""
    return float(os.environ.get(_text(trial, "variable"), "-1"))


def number_at_import(_trial: Trial) -> float:
    """What OPTUNA_TRIAL_NUMBER was when this module was imported, or -1."""
    return float(NUMBER_AT_IMPORT or "-1")


def draw(_trial: Trial) -> float:
    """A draw from NumPy's global random state."""
    import numpy as np

    return float(np.random.rand())
