"""Objectives of `test_bad_trials`: `one_of` does what its parameter `kind` says."""

import time

from mcp_server.execution.trial import Trial


def one_of(trial: Trial) -> object:
    return globals()[trial.params["kind"]](trial)


def good(trial: Trial) -> float:
    return 1.0


def fine(trial: Trial) -> float:
    return 2.0


def takes_memory(trial: Trial) -> float:
    held = [b"x" * 10**6 for _ in range(2000)]
    time.sleep(600)
    return float(len(held))
