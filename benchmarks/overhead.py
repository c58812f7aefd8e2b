"""Milliseconds per no-op trial: a study with MLflow tracking on, against plain in-process Optuna without tracking.

Run: `make bench`, or `python benchmarks/overhead.py [trials]`. Everything is measured side by side in one run, several
rounds in turn, because machines are noisy; compare the ratios.
"""

import statistics
import sys
import tempfile
import time
from pathlib import Path

import optuna

from mcp_server.settings import Settings
from mcp_server.studies.spec import CallableStudySpec
from mcp_server.workspace import Workspace

ROUNDS = 3


def plain(n_trials: int, storage: optuna.storages.BaseStorage | str | None) -> float:
    """Milliseconds per trial of `study.optimize` in this process."""
    study = optuna.create_study(storage=storage, sampler=optuna.samplers.RandomSampler())

    def objective(trial: optuna.Trial) -> float:
        return sum(trial.suggest_float(f"p{i}", 0.0, 1.0) for i in range(5))

    began = time.perf_counter()
    study.optimize(objective, n_trials=n_trials)
    return (time.perf_counter() - began) / n_trials * 1e3


def ours(n_trials: int) -> tuple[float, float]:
    """Milliseconds per trial of a study, and of a study and its arrival in MLflow, from its first to its last trial."""
    with tempfile.TemporaryDirectory() as folder, Workspace(Settings(workspace=Path(folder))) as workspace:
        spec = CallableStudySpec.model_validate(
            {
                "study_name": "noop",
                "objective": "mcp_server.testing.objectives:noop",
                "search_space": {f"p{i}": {"low": 0.0, "high": 1.0} for i in range(5)},
                "sampler": "random",
                "n_trials": n_trials,
                "parallel": 1,
                "preload": ["mcp_server.testing.objectives"],
            }
        )
        workspace.studies.start(spec, "benchmark")
        while not workspace.studies.read.ended("noop"):
            time.sleep(0.05)
        trials = workspace.studies.read.trials("noop")
        first = min(trial.started_at for trial in trials)
        last = max(trial.ended_at or 0.0 for trial in trials)
        while not workspace.studies.read.status("noop").tracking.synced:
            time.sleep(0.05)
        return (last - first) / n_trials * 1e3, (time.time() - first) / n_trials * 1e3


def main() -> None:
    """Print the medians and the ratios."""
    n_trials = int(sys.argv[1]) if len(sys.argv) > 1 else 200
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    memory, default, study, synced = [], [], [], []
    for _ in range(ROUNDS):
        with tempfile.TemporaryDirectory() as folder:
            memory.append(plain(n_trials, None))
            default.append(plain(n_trials, f"sqlite:///{folder}/plain.db"))
        run, arrived = ours(n_trials)
        study.append(run)
        synced.append(arrived)
    print(f"{n_trials} no-op trials, 5 parameters, random sampler, one worker, median of {ROUNDS} rounds, ms per trial")
    for name, values in (
        ("plain Optuna in memory, no tracking", memory),
        ("plain Optuna, its default SQLite, no tracking", default),
        ("this project: own process per trial, durable commit, tracking on", study),
        ("this project, until MLflow has it all", synced),
    ):
        print(f"  {statistics.median(values):8.2f}  {name}")
    ratio = statistics.median(a / b for a, b in zip(study, default, strict=True))
    print(f"  ratio to plain Optuna on its default SQLite: {ratio:.2f} (goal: below 1)")


if __name__ == "__main__":
    main()
