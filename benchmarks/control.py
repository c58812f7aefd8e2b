"""How fast a study begins, comes back after kill -9 of its runner, and ends when it is told to, through the library.

Run: `make bench`, or `python benchmarks/control.py`. Goals: first trial within 1 s of the start, a trial running within
2 s of the runner's death, and nothing running within 0.3 s of the order to stop. A process that does nothing but import
the runner's modules is measured in the same run as the floor of the first two.
"""

import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import psutil

from mcp_server.settings import Settings
from mcp_server.studies.spec import CallableStudySpec
from mcp_server.workspace import Workspace

ROUNDS = 7
GOALS = {"start to first trial": 1.0, "kill -9 to trial running": 2.0, "stop to nothing running": 0.3}


def seconds_until(holds: Callable[[], object]) -> float:
    """Seconds until the condition holds, looked at every few milliseconds."""
    began = time.perf_counter()
    while not holds():
        time.sleep(0.002)
        if time.perf_counter() - began > 60:
            raise SystemExit("it did not happen within a minute")
    return time.perf_counter() - began


def floor() -> float:
    """Seconds of a process that imports what a runner imports, and of its launcher."""
    began = time.perf_counter()
    subprocess.run([sys.executable, "-c", "import mcp_server.studies.__main__, optuna"], check=True)
    return time.perf_counter() - began


def runner_of(folder: Path) -> psutil.Process:
    """The runner of the one study in the workspace."""
    until = time.perf_counter() + 10
    while time.perf_counter() < until:
        for process in psutil.process_iter(["cmdline"]):
            line = process.info["cmdline"] or []
            if "mcp_server.studies" in line and str(folder) in line:
                return process
    raise SystemExit("the study has no runner")


def once(number: int) -> dict[str, float]:
    """One study, from its start over the death of its runner to its end."""
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as scratch:
        folder = Path(scratch)
        with Workspace(Settings(workspace=folder, parallel=2)) as workspace:
            workspace.studies.read.page()  # the database is there, as on every start but the first
            workspace.keep_alive()
            spec = CallableStudySpec.model_validate(
                {
                    "study_name": f"round {number}",
                    "objective": "mcp_server.testing.objectives:wait_for_file",
                    "search_space": {"x": {"low": 0.0, "high": 1.0}},
                    "payload": {"file": str(folder / "never")},
                    "sampler": "random",
                    "preload": ["mcp_server.testing.objectives"],
                }
            )
            name = spec.study_name

            def running() -> set[tuple[int | None, int]]:
                jobs = workspace.studies.read.jobs(name)
                return {(job.trial, job.attempt) for job in jobs if job.state == "running"}

            workspace.studies.start(spec, "benchmark")
            found = {"start to first trial": seconds_until(running)}
            before, runner = running(), runner_of(folder)
            runner.kill()
            found["kill -9 to trial running"] = seconds_until(lambda: running() - before)
            seconds_until(lambda: len(running()) == 2)
            runner = runner_of(folder)
            workers = runner.children(recursive=True)
            workspace.studies.control(name, "stop", "benchmark")
            found["stop to nothing running"] = seconds_until(lambda: not running())
            psutil.wait_procs(workers, timeout=10)
            return found


def main() -> None:
    """Print the medians, the longest and the goals."""
    rounds = [once(number) for number in range(ROUNDS)]
    imports = statistics.median(floor() for _ in range(3))
    print(f"{ROUNDS} rounds on {psutil.cpu_count()} cores, seconds: median / longest (goal)")
    for name, goal in GOALS.items():
        values = [found[name] for found in rounds]
        print(f"  {name}: {statistics.median(values):.2f} / {max(values):.2f} ({goal:g})")
    print(f"  floor, a process that imports the runner's modules: {imports:.2f}")


if __name__ == "__main__":
    main()
