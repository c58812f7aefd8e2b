"""What the tracking store still owes: rows written in the transaction that ends a trial.

Source of the pattern: Transactional outbox, https://microservices.io/patterns/data/transactional-outbox.html
"""

import time

from sqlalchemy import ColumnElement, Connection, delete, exists, func, select
from sqlalchemy.dialects import postgresql, sqlite

from mcp_server.store import schema
from mcp_server.tracking.queries import TrackingStatus
from mcp_server.tracking.records import AnyRecord, StudyDeletionRecord, study_key

OPEN_STATES = ("queued", "creating")


def enqueue(connection: Connection, record: AnyRecord) -> None:
    """Owe `record` to the tracking store as part of the caller's transaction; the same key twice is one row."""
    insert = postgresql.insert if connection.dialect.name == "postgresql" else sqlite.insert
    row = {
        "key": record.key,
        "study_id": record.study_id,
        "kind": record.kind,
        "payload": record.to_json(),
        "created_at": time.time(),
    }
    connection.execute(insert(schema.outbox).on_conflict_do_nothing(index_elements=["key"]), row)


def enqueue_deletion(connection: Connection, study_id: str, study_name: str, deleted_at: float) -> None:
    """Owe the deletion of a study's runs as part of the caller's transaction; runs that were not begun never are."""
    table = schema.outbox
    mine = table.c.study_id == study_id
    connection.execute(delete(table).where(mine, table.c.state == "queued", table.c.kind != "study"))
    found = connection.execute(select(table.c.state, table.c.payload).where(table.c.key == study_key(study_id)))
    study = found.one_or_none()
    if study is None or study.state == "queued":
        connection.execute(delete(table).where(mine))
        return
    experiment = str(study.payload.get("experiment", study_name))
    names = {"study_id": study_id, "study_name": study_name, "experiment": experiment}
    enqueue(connection, StudyDeletionRecord(**names, deleted_at=deleted_at))


def forget(connection: Connection, study_id: str, kept_key: str) -> None:
    """Drop what was owed of a deleted study, all but the record of its deletion."""
    table = schema.outbox
    connection.execute(delete(table).where(table.c.study_id == study_id, table.c.key != kept_key))


def has_pending(connection: Connection) -> bool:
    """Whether a record waits for the tracking store."""
    return bool(connection.execute(select(exists().where(schema.outbox.c.state.in_(OPEN_STATES)))).scalar())


def status(connection: Connection, study_id: str | None, backend: str) -> TrackingStatus:
    """How far tracking is behind for one study, or for the whole workspace when `study_id` is None."""
    table = schema.outbox
    mine: list[ColumnElement[bool]] = [] if study_id is None else [table.c.study_id == study_id]
    pending, oldest = connection.execute(
        select(func.count(), func.min(table.c.created_at)).where(table.c.state.in_(OPEN_STATES), *mine)
    ).one()
    refused = table.c.state.in_((*OPEN_STATES, "refused"))
    last_error = connection.execute(
        select(table.c.error).where(refused, table.c.error.is_not(None), *mine).order_by(table.c.id.desc()).limit(1)
    ).scalar()
    return TrackingStatus(
        backend=backend,
        synced=pending == 0 and last_error is None,
        pending=pending,
        oldest_pending_s=None if oldest is None else round(max(0.0, time.time() - oldest), 1),
        last_error=last_error,
    )
