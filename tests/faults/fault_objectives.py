"""Objectives of the fault tests; a study names them as `fault_objectives:<function>` with this folder on its path."""

import os
import sys
import time
from pathlib import Path

from mcp_server.execution.trial import Trial

STEPS = 3
NOISE = 1e-15  # two attempts at a trial differ, so that a record of the wrong one is found


def curve(trial: Trial) -> float:
    """A few reports, one printed line and a value that is a little different each time, as most are."""
    for step in range(STEPS):
        trial.report(float(trial.params["x"]), step)
    sys.stdout.write("done\n")
    return float(trial.params["x"]) + int.from_bytes(os.urandom(4)) * NOISE


def short(trial: Trial) -> float:
    """A trial that takes long enough for something to happen meanwhile, and looks at the clock as many scripts do."""
    for _ in range(10):
        time.sleep(0.005)
        time.time()
    return curve(trial)


def at_a_gate(trial: Trial) -> float:
    """The first attempt says who it is and waits until somebody opens its gate; others run at once."""
    folder = Path(trial.payload["folder"])
    try:
        os.mkfifo(folder / f"{trial.number}.gate")
    except FileExistsError:
        return curve(trial)
    draft = folder / f"{trial.number}.draft"
    draft.write_text(str(os.getpid()), encoding="utf-8")
    draft.rename(folder / f"{trial.number}.pid")
    (folder / f"{trial.number}.gate").read_bytes()
    return curve(trial)


def held_back(trial: Trial) -> float:
    """Says who runs it, waits until trials up to its number may go, and leaves one line for each time it ended."""
    folder = Path(trial.payload["folder"])
    (folder / f"pid-{trial.number}-{os.getpid()}").touch()
    until = time.monotonic() + 300
    while int((folder / "limit").read_text(encoding="utf-8") or 0) <= trial.number and time.monotonic() < until:
        time.sleep(0.01)
    return curve(trial)
