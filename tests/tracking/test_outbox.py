import json
import math
from pathlib import Path

import pytest
from sqlalchemy import func, select, update

from mcp_server.store import Store, schema
from mcp_server.tracking import outbox
from mcp_server.tracking.records import DatasetRef, StudyEndRecord, StudyRecord, TrialRecord, parse_record

STUDY = StudyRecord(
    study_id="s1",
    study_name="churn",
    experiment="churn",
    started_at=10.0,
    params={"folds": 5},
    dataset=DatasetRef(name="churn.csv", digest="ab" * 32, source="/data/churn.csv"),
)
TRIAL = TrialRecord(
    study_id="s1",
    study_name="churn",
    number=0,
    state="complete",
    params={"c": 0.5, "odd": math.nan, "kernel": "rbf", "shrink": True, "gamma": None},
    metric="accuracy",
    value=math.nan,
    reports=[(0, 0.5, 10.5), (1, math.inf, 10.6)],
    started_at=10.0,
    ended_at=11.0,
    config={"nested": {"a": [1, math.inf]}},
)
END = StudyEndRecord(study_id="s1", study_name="churn", state="finished", ended_at=12.0)


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(tmp_path)


def test_a_record_enqueued_twice_is_owed_once(store):
    for _ in range(2):
        with store.write() as connection:
            outbox.enqueue(connection, TRIAL)
    with store.read() as connection:
        assert connection.execute(select(func.count()).select_from(schema.outbox)).scalar() == 1


def test_a_rolled_back_transaction_owes_nothing(store):
    def fail_after_enqueueing() -> None:
        with store.write() as connection:
            outbox.enqueue(connection, STUDY)
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        fail_after_enqueueing()
    with store.read() as connection:
        assert not outbox.has_pending(connection)


@pytest.mark.parametrize("record", [STUDY, TRIAL, END], ids=lambda record: record.kind)
def test_a_stored_payload_parses_back_to_the_same_record(store, record):
    with store.write() as connection:
        outbox.enqueue(connection, record)
    with store.read() as connection:
        payload = connection.execute(select(schema.outbox.c.payload)).scalar_one()
    back = parse_record(payload)
    assert type(back) is type(record)
    assert back.to_json() == record.to_json()


def test_non_finite_values_survive_the_outbox_as_floats(store):
    with store.write() as connection:
        outbox.enqueue(connection, TRIAL)
    with store.read() as connection:
        back = parse_record(connection.execute(select(schema.outbox.c.payload)).scalar_one())
    assert json.dumps(TRIAL.to_json(), allow_nan=False)  # PostgreSQL takes no other JSON
    assert isinstance(back, TrialRecord)
    assert back.value is not None
    assert math.isnan(back.value)
    assert back.reports[1][1] == math.inf


def test_status_counts_what_waits_and_shows_the_latest_error(store):
    with store.write() as connection:
        for record in (STUDY, TRIAL, END):
            outbox.enqueue(connection, record)
        assert outbox.status(connection, "s1", "sqlite").pending == 3
        connection.execute(update(schema.outbox).where(schema.outbox.c.kind == "study").values(state="done"))
        connection.execute(update(schema.outbox).where(schema.outbox.c.kind == "trial").values(error="down"))
        found = outbox.status(connection, "s1", "sqlite")
        elsewhere = outbox.status(connection, "s2", "sqlite")
    assert (found.pending, found.synced, found.last_error) == (2, False, "down")
    assert found.oldest_pending_s is not None
    assert (elsewhere.pending, elsewhere.synced, elsewhere.last_error) == (0, True, None)


def test_a_refused_record_keeps_the_study_from_being_synced(store):
    with store.write() as connection:
        outbox.enqueue(connection, TRIAL)
        connection.execute(update(schema.outbox).values(state="refused", error="bad key"))
        found = outbox.status(connection, None, "sqlite")
        assert not outbox.has_pending(connection)
    assert (found.pending, found.synced, found.last_error) == (0, False, "bad key")
