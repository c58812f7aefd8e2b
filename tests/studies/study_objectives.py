"""Objectives of the tests; a study names them as `study_objectives:<function>` with this folder on its path."""

import math
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
