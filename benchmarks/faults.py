"""Seconds of a study while its MLflow server misbehaves, next to the same study with a server that works.

Run: `make bench`, or `python benchmarks/faults.py`, from the root of the repository. Goals: no fault makes a study take
more than 1.1 times as long, and what waited has arrived within 30 s of the server's recovery.
"""

import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent.parent))

from mcp_server.settings import Settings
from mcp_server.studies.spec import CallableStudySpec
from mcp_server.workspace import Workspace
from tests.faults.mlflow_server import serving
from tests.faults.proxy import FAULTS, Fault, FaultProxy

N_TRIALS, ROUNDS = 60, 3


def until(holds: Callable[[], object], limit_s: float) -> float:
    """Seconds until the condition holds."""
    began = time.perf_counter()
    while not holds():
        time.sleep(0.05)
        if time.perf_counter() - began > limit_s:
            raise SystemExit(f"it did not happen within {limit_s:g} s")
    return time.perf_counter() - began


def study(proxy: FaultProxy, fault: Fault) -> tuple[float, float]:
    """Seconds from the first trial to the last, and from the server's recovery until it has all of them."""
    proxy.set(fault)
    uri = f"http://127.0.0.1:{proxy.port}"
    with (
        tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder,
        Workspace(Settings(workspace=Path(folder), parallel=2, tracking_uri=uri)) as workspace,
    ):
        workspace.keep_alive()
        spec = CallableStudySpec.model_validate(
            {
                "study_name": "measured",
                "objective": "mcp_server.testing.objectives:busy",
                "payload": {"seconds": 0.1},
                "search_space": {"x": {"low": 0.0, "high": 1.0}},
                "sampler": "random",
                "n_trials": N_TRIALS,
                "preload": ["mcp_server.testing.objectives"],
            }
        )
        workspace.studies.start(spec, "benchmark")
        until(lambda: workspace.studies.read.ended("measured"), 300)
        found = workspace.studies.read.trials("measured")
        taken = max(t.ended_at or 0.0 for t in found) - min(t.started_at for t in found)
        proxy.set("none")
        return taken, until(lambda: workspace.studies.read.status("measured").tracking.synced, 300)


def main() -> None:
    """Print ratios and the time to catch up."""
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as scratch, serving(Path(scratch)) as port:
        proxy = FaultProxy(port)
        print(f"{N_TRIALS} trials of 0.1 s on 2 workers, median of {ROUNDS} rounds")
        rounds: dict[str, list[tuple[float, float]]] = {}
        for _ in range(ROUNDS):
            for fault in ("none", *FAULTS):
                rounds.setdefault(fault, []).append(study(proxy, fault))
        for fault in FAULTS:
            ratio = statistics.median(a[0] / b[0] for a, b in zip(rounds[fault], rounds["none"], strict=True))
            late = statistics.median(late for _, late in rounds[fault])
            print(f"  {fault}: {ratio:.2f} of the time without (goal 1.1), all arrived {late:.1f} s later (goal 30)")
        proxy.close()


if __name__ == "__main__":
    main()
