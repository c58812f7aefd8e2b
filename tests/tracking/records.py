"""Records of a study that could have happened, and what became of them in MLflow."""

import sqlite3
from contextlib import closing
from pathlib import Path

from mcp_server.store import Store
from mcp_server.tracking import outbox
from mcp_server.tracking.records import DatasetRef, StudyEndRecord, StudyRecord, TrialRecord

START = 1_700_000_000.0
STUDY = StudyRecord(
    study_id="s1",
    study_name="churn",
    experiment="churn",
    started_at=START,
    params={"n_trials": 30, "estimator": "auto"},
    tags={"agent": "tuning"},
    dataset=DatasetRef(name="churn.csv", digest="ab" * 32, source="/data/churn.csv", n_rows=100, n_columns=4),
)
END = StudyEndRecord(
    study_id="s1",
    study_name="churn",
    state="finished",
    stop_reason="n_trials",
    ended_at=START + 100,
    metrics={"best_value": 0.9},
    best_trial=3,
)


def trial(number: int, **changes: object) -> TrialRecord:
    given = {
        "study_id": "s1",
        "study_name": "churn",
        "number": number,
        "state": "complete",
        "params": {"c": 0.5 + number, "kernel": "rbf"},
        "metric": "accuracy",
        "value": 0.5 + number / 1_000,
        "std": 0.01,
        "best_so_far": 0.5 + number / 1_000,
        "metrics": {"log_loss": 0.3},
        "reports": [(fold, 0.5 + fold / 100, START + number + fold / 10) for fold in range(3)],
        "started_at": START + number,
        "ended_at": START + number + 0.75,
        "cost_usd": 0.002,
        "config": {"estimator": "svc", "nested": {"a": [1, 2]}},
        "source": "sampler",
        "tags": {"agent": "tuning"},
    }
    return TrialRecord.model_validate({**given, **changes})


def owe(store: Store, *records: StudyRecord | TrialRecord | StudyEndRecord) -> None:
    with store.write() as connection:
        for record in records:
            outbox.enqueue(connection, record)


def tracking_status(store: Store) -> outbox.TrackingStatus:
    with store.read() as connection:
        return outbox.status(connection, None, "sqlite")


def count(database: Path, query: str) -> int:
    """A number read from MLflow's file behind MLflow's back; 0 while there is no file."""
    if not database.exists():
        return 0
    with closing(sqlite3.connect(f"{database.as_uri()}?mode=ro", uri=True, timeout=20)) as raw:
        return int(raw.execute(query).fetchone()[0])
