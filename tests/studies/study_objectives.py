"""Objectives of the tests; a study names them as `study_objectives:<function>` with this folder on its path."""

import math
import os
import sqlite3
import time
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

from mcp_server.execution.trial import Trial, TrialPruned


def quadratic(trial: Trial) -> float:
    return trial.params["x"] ** 2 + (trial.params.get("k") == "b")


def raises_on_b(trial: Trial) -> float:
    if trial.params["k"] == "b":
        raise ValueError("b is not for me")
    return quadratic(trial)


def not_a_number(trial: Trial) -> float:
    return math.nan


def curve(trial: Trial) -> float:
    """Ten steps at the level of `x`: a low x is a planted bad curve when maximised."""
    for step in range(10):
        trial.report(trial.params["x"], step)
        if trial.should_prune():
            raise TrialPruned
    return trial.params["x"]


def given(trial: Trial) -> float:
    """The value `v` of the trial, or a failure where it is negative."""
    if trial.params["v"] < 0:
        raise ValueError("this one fails")
    return trial.params["v"]


def waits_for_failure(trial: Trial) -> float:
    """Trial 1 fails at once; trial 0 reports, waits until that is on record, and reports again."""
    if trial.number == 1:
        raise ValueError("this one fails")
    trial.report(0.0, 0)
    workspace = Path(trial.payload["folder"]) / "workspace" / "workspace.db"
    with closing(sqlite3.connect(workspace)) as connection:
        _until(lambda: connection.execute("SELECT count(*) FROM trials WHERE state = 'failed'").fetchone()[0])
    for step in range(1, 4):
        trial.report(0.0, step)
        if trial.should_prune():
            raise TrialPruned
    return 1.0


def sets_parallel(trial: Trial) -> float:
    """Trial 0 orders two at a time; trials 1 and 2 wait for each other."""
    if trial.number == 0:
        with sqlite3.connect(Path(trial.payload["folder"], "workspace.db")) as connection:
            connection.execute("UPDATE studies SET parallel = 2")
    if trial.number in {1, 2}:
        Path(trial.payload["meet"], str(trial.number)).touch()
        _until(Path(trial.payload["meet"], str(3 - trial.number)).exists)
    return trial.params["v"]


def _until(condition: Callable[[], object]) -> None:
    until = time.monotonic() + 60
    while not condition():
        if time.monotonic() > until:
            raise TimeoutError
        time.sleep(0.01)


def hill(trial: Trial) -> float:
    """Ten steps that rise to 0 at step `peak` and fall again."""
    for step in range(10):
        trial.report(-abs(step - trial.params["peak"]), step)
        if trial.should_prune():
            raise TrialPruned
    return -abs(9 - trial.params["peak"])


def ramp(trial: Trial) -> float:
    """Ten rising steps where `good`, otherwise a flat curve that falls behind from step 2 on."""
    for step in range(10):
        trial.report(float(step) if trial.params["good"] else 1.5, step)
        if trial.should_prune():
            raise TrialPruned
    return 9.0 if trial.params["good"] else 1.5


def count_calls(trial: Trial) -> float:
    """Leaves one line per attempt, so that a test can see how often each number ran."""
    with Path(trial.payload["folder"], "calls.txt").open("a", encoding="utf-8") as file:
        file.write(f"{trial.number}\n")
    return quadratic(trial)


def asks_for_more(trial: Trial) -> float:
    """Somebody raises the total to 2 while the last trial ends."""
    with sqlite3.connect(Path(trial.payload["folder"], "workspace.db")) as connection:
        connection.execute("UPDATE studies SET n_trials = 2")
    return quadratic(trial)


def sees_elapsed(trial: Trial) -> float:
    """The running seconds on record while the trial runs."""
    until = time.monotonic() + 30
    with closing(sqlite3.connect(Path(trial.payload["folder"], "workspace.db"))) as connection:
        while time.monotonic() < until:
            if seconds := connection.execute("SELECT elapsed_s FROM studies").fetchone()[0]:
                return float(seconds)
            time.sleep(0.01)
    raise TimeoutError("no running time was recorded")


def gated(trial: Trial) -> float:
    """Trials from `hold` on say who they are and wait for the file `go`."""
    folder = Path(trial.payload["folder"])
    if trial.number >= trial.payload["hold"]:
        (folder / f"pid-{trial.number}-{os.getpid()}").touch()
        until = time.monotonic() + 120
        while not (folder / "go").exists() and time.monotonic() < until:
            time.sleep(0.01)
    return count_calls(trial)


def environment(trial: Trial) -> float:
    """What a training process sees of its surroundings."""
    names = ("OPTUNA_TRIAL_NUMBER", "OMP_NUM_THREADS", "OMP_WAIT_POLICY", "TUNING_STUDY")
    Path(trial.payload["folder"], f"{trial.number}.txt").write_text(
        " ".join(os.environ.get(name, "-") for name in names), encoding="utf-8"
    )
    everything = "\n".join(f"{name}={value}" for name, value in os.environ.items())
    Path(trial.payload["folder"], f"{trial.number}.env").write_text(everything, encoding="utf-8")
    return 1.0


def charges(trial: Trial) -> float:
    """Costs 0.30 beside its time, half of it for tokens."""
    trial.charge(0.15)
    trial.charge(model="small", input_tokens=50_000, output_tokens=100_000)
    return float(trial.number)


def charges_then_dies(trial: Trial) -> float:
    trial.charge(0.30)
    os._exit(1)


def charges_an_unknown_model(trial: Trial) -> float:
    return trial.charge(model="large", input_tokens=1)


def reports_what_it_costs(trial: Trial) -> float:
    """Charges 0.30 before each of ten reports."""
    for step in range(10):
        trial.charge(0.30)
        trial.report(float(step), step)
        if trial.should_prune():
            raise TrialPruned
    return 0.0


def sleeps_forever(trial: Trial) -> float:
    (Path(trial.payload["folder"]) / f"pid-{trial.number}-{os.getpid()}").touch()
    time.sleep(3600)
    return 0.0
