"""How much more two workers do than one, and three than one of trials that sleep: `python benchmarks/scaling.py`.

One and two workers take turns in one run, so that what else the machine does hits both alike. The goal is 1.8 on two
free cores, so only turns count in which other processes used next to nothing. Processor seconds per trial do not depend
on that: they rise when two workers are in each other's way.
"""

import argparse
import statistics
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

import psutil

from mcp_server.execution import Ended, TrialTask
from mcp_server.execution.local import LocalExecutor

GOAL = 1.8
QUIET = 0.1
ASLEEP = 2.7
SLEEPERS, SLEEP_S = 12, 0.5
SLEEPING = "mcp_server.testing.objectives:sleep"
OBJECTIVE = "mcp_server.testing.objectives:count_up"


@dataclass(frozen=True)
class Turn:
    """What one batch took."""

    trials_per_s: float
    cpu_seconds: float
    others: float  # cores that other processes used meanwhile


class Load:
    """A batch of equal CPU-bound trials."""

    def __init__(self, executor: LocalExecutor, trials: int, rounds: int, folder: Path) -> None:
        self._executor = executor
        self._trials = trials
        self._rounds = rounds
        self._log = str(folder / "trial.log")

    def run(self, workers: int) -> Turn:
        """One turn with so many workers."""
        self._executor.resize(workers)
        started, busy = time.perf_counter(), busy_seconds()
        submitted, ended = 0, []
        while len(ended) < self._trials:
            while submitted < self._trials and submitted - len(ended) < workers:
                self._executor.submit(self._task(submitted))
                submitted += 1
            ended += [event for event in self._executor.wait(1.0) if isinstance(event, Ended)]
        assert all(event.state == "completed" for event in ended), ended  # noqa: S101 - or the rate means nothing
        seconds, cpu_seconds = time.perf_counter() - started, sum(event.cpu_seconds for event in ended)
        others = (busy_seconds() - busy - cpu_seconds) / seconds
        return Turn(self._trials / seconds, cpu_seconds / self._trials, others)

    def _task(self, number: int) -> TrialTask:
        return TrialTask(f"trial-{number}", OBJECTIVE, number, {}, {"rounds": self._rounds}, self._log)


def sleeping(executor: LocalExecutor, folder: Path, workers: int) -> float:
    """Seconds of a batch of trials that only wait: how many run at a time, whatever the cores."""
    executor.resize(workers)
    log, started, ended, submitted = str(folder / "trial.log"), time.perf_counter(), 0, 0
    while ended < SLEEPERS:
        while submitted < SLEEPERS and submitted - ended < workers:
            payload = {"seconds": SLEEP_S}
            executor.submit(TrialTask(f"sleep-{workers}-{submitted}", SLEEPING, submitted, {}, {**payload}, log))
            submitted += 1
        ended += sum(isinstance(event, Ended) for event in executor.wait(1.0))
    return time.perf_counter() - started


def busy_seconds() -> float:
    """Processor time that the whole machine has spent."""
    times = psutil.cpu_times()
    return times.user + times.nice + times.system + times.irq + times.softirq + times.steal


def alternating(load: Load, pairs: int) -> list[tuple[Turn, Turn]]:
    """Turns of one and of two workers, the order changing from pair to pair."""
    load.run(2)  # the first trials wait for the fork server
    taken = []
    for pair in range(pairs):
        first = load.run(1 + pair % 2)
        second = load.run(2 - pair % 2)
        taken.append((first, second) if pair % 2 == 0 else (second, first))
    return taken


def main() -> int:
    """Print the ratio; the exit code is 1 if it misses the goal although the machine was ours."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--pairs", type=int, default=8, help="how often one and two workers take turns")
    parser.add_argument("--trials", type=int, default=8, help="trials per turn")
    parser.add_argument("--rounds", type=int, default=2000, help="work per trial")
    arguments = parser.parse_args()
    executor = LocalExecutor(2, threads=1)
    with tempfile.TemporaryDirectory() as folder:
        pairs = alternating(Load(executor, arguments.trials, arguments.rounds, Path(folder)), arguments.pairs)
        asleep = sleeping(executor, Path(folder), 1) / sleeping(executor, Path(folder), 3)
        executor.close()
    quiet = [pair for pair in pairs if max(turn.others for turn in pair) < QUIET]
    counted = quiet or pairs
    ratio = statistics.median(two.trials_per_s / one.trials_per_s for one, two in counted)
    efficiency = statistics.median(one.cpu_seconds / two.cpu_seconds for one, two in pairs)
    others = statistics.mean(turn.others for pair in pairs for turn in pair)
    print(f"one worker   {statistics.median(one.trials_per_s for one, _ in counted):5.2f} trials/s")
    print(f"two workers  {statistics.median(two.trials_per_s for _, two in counted):5.2f} trials/s")
    print(f"wall ratio   {ratio:5.2f}  (goal {GOAL}; {len(quiet)} of {len(pairs)} pairs had the machine to themselves)")
    print(f"cpu ratio    {efficiency:5.2f}  (processor seconds per trial, one worker to two; 1.00 is perfect)")
    print(f"others used  {others:5.2f}  cores on average{'' if quiet else ': no verdict, run it on a quiet machine'}")
    print(f"asleep       {asleep:5.2f}  (goal {ASLEEP}; {SLEEPERS} trials of {SLEEP_S} s, one worker to three)")
    return int(bool(quiet) and ratio < GOAL)


if __name__ == "__main__":
    sys.exit(main())
