"""Objectives of `test_bad_trials`: `one_of` does what its parameter `kind` says."""

import os
import time
from pathlib import Path

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


def tells_its_environment(trial: Trial) -> float:
    """Its own, and that of its parent, as it is when a process starts."""
    parent = Path(f"/proc/{os.getppid()}/environ").read_text(encoding="utf-8")
    told = [f"{name} {value}" for name, value in os.environ.items()]
    Path(str(trial.payload["folder"]), "environment").write_text("\n".join([*told, parent]), encoding="utf-8")
    return 3.0
