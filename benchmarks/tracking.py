"""What tracking costs: enqueueing a trial, and emptying the outbox against plain MlflowClient calls.

Run: python benchmarks/tracking.py [--trials 200]
Everything is measured in one process on one fresh SQLite store each, interleaved, so that a busy machine slows both.
"""

import argparse
import logging
import shutil
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from mcp_server.settings import Settings
from mcp_server.store import Store
from mcp_server.tracking import environment, outbox
from mcp_server.tracking.drain import Drain
from mcp_server.tracking.mlflow import MlflowTracker
from mcp_server.tracking.records import StudyRecord, TrialRecord
from mcp_server.tracking.target import tracking_target

ROUND = 25


def study() -> StudyRecord:
    return StudyRecord(study_id="s", study_name="bench", experiment="bench", started_at=1.7e9)


def trial(number: int) -> TrialRecord:
    at = 1.7e9 + number
    return TrialRecord(
        study_id="s",
        study_name="bench",
        number=number,
        state="complete",
        params={f"p{i}": i / 7 for i in range(10)},
        metric="accuracy",
        value=0.9,
        std=0.01,
        best_so_far=0.9,
        reports=[(fold, 0.9, at + fold / 10) for fold in range(5)],
        started_at=at,
        ended_at=at + 1,
        config={"estimator": "svc"},
        source="sampler",
        tags={"agent": "bench"},
    )


class Clock:
    """Wall and CPU seconds of the blocks it timed."""

    def __init__(self) -> None:
        self.wall = self.cpu = 0.0

    def time(self, work: Callable[[], object]) -> None:
        wall, cpu = time.perf_counter(), time.process_time()
        work()
        self.wall += time.perf_counter() - wall
        self.cpu += time.process_time() - cpu


def item_by_item(client: object, experiment: str, record: TrialRecord) -> None:
    """The same run as most scripts write it: one call per value."""
    from mlflow import MlflowClient

    assert isinstance(client, MlflowClient)  # noqa: S101 - for the reader
    run_id = client.create_run(experiment, run_name=f"trial_{record.number}").info.run_id
    for key, value in record.params.items():
        client.log_param(run_id, key, value)
    for step, value, at in record.reports:
        client.log_metric(run_id, "val_metric", value, round(at * 1_000), step)
    for key, number in {"accuracy": record.value, "std": record.std, "cost_usd": record.cost_usd}.items():
        client.log_metric(run_id, key, number)
    for key in ("agent", "optuna_trial", "optuna_study", "trial_number"):
        client.set_tag(run_id, key, record.number)
    client.log_dict(run_id, record.config, "config.json")
    client.set_terminated(run_id)


def run(n_trials: int, folder: Path) -> None:
    environment.prepare()
    logging.disable(logging.CRITICAL)
    plain_uri = f"sqlite:///{folder / 'plain.db'}"
    from mlflow import MlflowClient

    client = MlflowClient(plain_uri, plain_uri)  # before ours, whose faster journal is for all later connections
    experiment = client.create_experiment("bench", artifact_location=(folder / "plain").as_uri())
    client.search_runs([experiment])

    store = Store(folder / "workspace")
    drain = Drain(store, MlflowTracker(tracking_target(Settings(workspace=folder / "workspace"))))
    with store.write() as connection:
        outbox.enqueue(connection, study())
    drain.run_batch()

    bare, enqueue, drained, plain = Clock(), Clock(), Clock(), Clock()
    for start in range(0, n_trials, ROUND):
        records = [trial(number) for number in range(start, start + ROUND)]
        for record in records:
            bare.time(lambda: transaction(store, None))
            enqueue.time(lambda record=record: transaction(store, record))
        drained.time(drain.run_batch)
        plain.time(lambda records=records: [item_by_item(client, experiment, record) for record in records])
    report(n_trials, bare, enqueue, drained, plain)


def transaction(store: Store, record: TrialRecord | None) -> None:
    with store.write(durable=True) as connection:
        connection.exec_driver_sql("UPDATE workspace_info SET value = value + 1 WHERE key = 'created_at'")
        if record is not None:
            outbox.enqueue(connection, record)


def report(n: int, bare: Clock, enqueue: Clock, drained: Clock, plain: Clock) -> None:
    extra = (enqueue.cpu - bare.cpu) / n * 1_000
    print(f"enqueue inside a finishing transaction: +{extra:.3f} ms CPU a trial")
    print(f"transaction without / with it:           {bare.wall / n * 1e3:.2f} / {enqueue.wall / n * 1e3:.2f} ms wall")
    for name, clock in (("outbox -> MLflow", drained), ("MlflowClient item by item", plain)):
        print(
            f"{name:26s} {n / clock.wall:7.1f} runs/s {clock.wall / n * 1e3:8.2f} ms {clock.cpu / n * 1e3:8.2f} ms CPU"
        )
    print(f"ratio                      {plain.wall / drained.wall:7.1f} x wall  {plain.cpu / drained.cpu:.1f} x CPU")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--trials", type=int, default=200)
    given = parser.parse_args()
    folder = Path(tempfile.mkdtemp(prefix="tracking-"))
    try:
        run(given.trials, folder)
    finally:
        shutil.rmtree(folder)


if __name__ == "__main__":
    main()
