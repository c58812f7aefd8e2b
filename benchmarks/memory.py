"""Private memory of a worker, with and without the process that workers are forked from: `python benchmarks/memory.py`.

Four workers at a time fit the same small model with the libraries of table trials, and are measured while they wait for
the answer to their report. Both ways take turns in one run; what counts is the ratio. Private is what would be free if
that worker alone ended. The goal is a third of what a worker of its own takes.
"""

import argparse
import statistics
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import psutil

from mcp_server.execution import Reported, TrialTask
from mcp_server.execution.local import LocalExecutor
from mcp_server.studies.definition import PRELOAD

GOAL = 1 / 3
WORKERS = 4
MB = 2**20
OBJECTIVE = "memory_objective:fit_and_report"
FIT = """
import os

def fit_and_report(trial):
    import mcp_server.training.preload
    from sklearn.datasets import make_classification
    from sklearn.ensemble import RandomForestClassifier

    rows, labels = make_classification(500, random_state=trial.number)
    score = RandomForestClassifier(20, n_jobs=1).fit(rows, labels).score(rows, labels)
    trial.report(os.getpid(), step=0)
    return score
"""


@dataclass(frozen=True)
class Turn:
    """What workers took that ran at the same time."""

    private_mb: float
    seconds: float


def measured(method: Literal["fork", "spawn"], folder: Path) -> Turn:
    """Private memory of a worker, and how long all took from their start to their report."""
    executor = LocalExecutor(WORKERS, threads=1, preload=PRELOAD if method == "fork" else (), start_method=method)
    try:
        finished(executor, [task(WORKERS, folder)])  # the first trial waits for what is loaded once
        started = time.perf_counter()
        reports = reported(executor, [task(number, folder) for number in range(WORKERS)])
        seconds = time.perf_counter() - started
        private = [psutil.Process(int(report.value)).memory_full_info().uss / MB for report in reports]
        return Turn(statistics.mean(private), seconds)
    finally:
        executor.close()


def task(number: int, folder: Path) -> TrialTask:
    """A trial that fits a model."""
    log = str(folder / f"{number}.log")
    return TrialTask(f"trial-{number}", OBJECTIVE, number, {}, {}, log, python_path=[str(folder)])


def reported(executor: LocalExecutor, tasks: list[TrialTask]) -> list[Reported]:
    """The reports of trials, which go on waiting."""
    for each in tasks:
        executor.submit(each)
    reports: list[Reported] = []
    while len(reports) < len(tasks):
        for event in executor.wait(60.0):
            assert isinstance(event, Reported), event  # noqa: S101 - or there is nothing to measure
            reports.append(event)
    return reports


def finished(executor: LocalExecutor, tasks: list[TrialTask]) -> None:
    """Let trials come to their end."""
    for report in reported(executor, tasks):
        executor.answer(report.job_id, prune=False)
    while not executor.wait(60.0):
        pass


def main() -> int:
    """Print the ratio; the exit code is 1 if it misses the goal."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--turns", type=int, default=3, help="how often both ways take turns")
    turns = parser.parse_args().turns
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        (folder / "memory_objective.py").write_text(FIT, encoding="utf-8")
        pairs = [(measured("fork", folder), measured("spawn", folder)) for _ in range(turns)]
    forked = statistics.median(fork.private_mb for fork, _ in pairs)
    spawned = statistics.median(spawn.private_mb for _, spawn in pairs)
    ratio = statistics.median(fork.private_mb / spawn.private_mb for fork, spawn in pairs)
    faster = statistics.median(spawn.seconds / fork.seconds for fork, spawn in pairs)
    print(f"forked   {forked:6.1f} MB private per worker")
    print(f"spawned  {spawned:6.1f} MB private per worker")
    print(f"ratio    {ratio:6.2f}  (goal {GOAL:.2f} or less)")
    print(f"time     {faster:6.1f}  times longer until {WORKERS} spawned workers have reported")
    return int(ratio > GOAL)


if __name__ == "__main__":
    sys.exit(main())
