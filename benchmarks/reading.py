"""How long answers about many trials and many studies take, next to the bare query for the same rows.

Run: `make bench`, or `python benchmarks/reading.py`. Goals: 95th percentile of the status of a study with 10,000 trials
below 50 ms, of a list of 1,000 studies below 100 ms.
"""

import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
from sqlalchemy import func, insert, select

from mcp_server.settings import Settings
from mcp_server.store.schema import attempts, studies, trials
from mcp_server.studies.spec import CallableStudySpec
from mcp_server.workspace import Workspace

TRIALS, STUDIES, ROUNDS = 10_000, 1_000, 100


def spec(name: str, n_trials: int) -> CallableStudySpec:
    """A study of a function."""
    space = {f"p{i}": {"low": 0.0, "high": 1.0} for i in range(5)}
    fields = {"study_name": name, "objective": "a.module:function", "search_space": space, "n_trials": n_trials}
    return CallableStudySpec.model_validate(fields)


def fill(workspace: Workspace) -> None:
    """One study with many trials, and many with a few."""
    rng = np.random.default_rng(0)
    workspace.studies.start(spec("large", TRIALS), "benchmark")
    with workspace.store.read() as connection:
        columns = dict(connection.execute(select(studies)).mappings().one())
    add(workspace, columns["id"], TRIALS, rng)
    with workspace.store.write() as connection:
        more = [{**columns, "id": f"{i:032x}", "name": f"study {i}", "name_key": f"study {i}"} for i in range(STUDIES)]
        connection.execute(insert(studies), more)
    for i in range(STUDIES):
        add(workspace, f"{i:032x}", 10, rng)


def add(workspace: Workspace, study_id: str, count: int, rng: np.random.Generator) -> None:
    """Complete trials of a study, each with one attempt."""
    rows = [
        {"study_id": study_id, "number": number, "state": "complete", "source": "sampler", "optuna_number": number,
         "params": {f"p{i}": rng.random() for i in range(5)}, "value": rng.random(), "std": 0.01,
         "folds": [rng.random() for _ in range(5)], "started_at": float(number), "ended_at": number + 0.5}
        for number in range(count)
    ]  # fmt: skip
    tried = [
        {"study_id": study_id, "number": number, "attempt": 0, "state": "completed", "log_path": "", "seconds": 0.5,
         "started_at": float(number), "ended_at": number + 0.5, "cost_usd": 0.001}
        for number in range(count)
    ]  # fmt: skip
    with workspace.store.write() as connection:
        connection.execute(insert(trials), rows)
        connection.execute(insert(attempts), tried)


def high(ask: Callable[[], object]) -> tuple[float, float]:
    """Median and 95th percentile in milliseconds."""
    taken = []
    for _ in range(ROUNDS):
        began = time.perf_counter()
        ask()
        taken.append((time.perf_counter() - began) * 1e3)
    return statistics.median(taken), statistics.quantiles(taken, n=20)[-1]


def main() -> None:
    """Print the answers with their goals."""
    with (
        tempfile.TemporaryDirectory() as folder,
        Workspace(Settings(workspace=Path(folder)), launch=lambda *_: None) as workspace,
    ):
        fill(workspace)
        read = workspace.studies.read

        def bare() -> object:
            with workspace.store.read() as connection:
                counted = select(func.count(), func.max(trials.c.value)).where(trials.c.state == "complete")
                return connection.execute(counted).one()

        print(f"{TRIALS:,} trials in one study, {STUDIES:,} studies, {ROUNDS} calls each, ms: median / 95th percentile")
        for name, ask, goal in (
            ("status of the large study", lambda: read.status("large"), "50"),
            ("the best five of its trials", lambda: read.compare("large"), ""),
            ("its progress", lambda: read.progress("large"), ""),
            ("list of all studies, by pages of 100", lambda: [read.page(100, None)], "100"),
            ("list of all studies in one page", lambda: read.page(STUDIES + 1), "100"),
            ("the queue", workspace.queue.status, ""),
            ("floor: count and maximum of all values", bare, ""),
        ):
            median, most = high(ask)
            print(f"  {name}: {median:.1f} / {most:.1f}" + (f" (goal {goal})" if goal else ""))


if __name__ == "__main__":
    main()
