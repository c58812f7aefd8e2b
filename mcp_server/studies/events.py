"""The event log of a study: what was ordered and what happened, in order, for people and for tests."""

import time
from typing import Literal

from sqlalchemy import Connection, insert, select

from mcp_server.store.schema import events
from mcp_server.studies.summary import StudyEvent
from mcp_server.types import JsonObject

RUNNER = "runner"

EventKind = Literal[
    "created",
    "ordered",  # detail: what
    "started",  # a runner took the study
    "trial_ended",  # detail: where it came from, state and cause; its attempts say when they started
    "attempt_lost",
    "limit_reached",
    "approved",  # detail: what it may cost
    "declined",
    "waiting",  # detail: {"for": what it waits for while nothing runs, e.g. "a free slot"}
    "resumed",  # detail: {"after": what the runner waited for to reach the database, "seconds": how long}
    "ended",  # detail: state and reason
    "repaired",
]


def record(
    connection: Connection,
    study_id: str,
    kind: EventKind,
    actor: str = RUNNER,
    *,
    number: int | None = None,
    attempt: int | None = None,
    detail: JsonObject | None = None,
    at: float | None = None,
) -> None:
    """Add an event as part of the caller's transaction; it happened `at` that time, or now."""
    connection.execute(
        insert(events).values(
            study_id=study_id,
            at=time.time() if at is None else at,
            kind=kind,
            actor=actor,
            number=number,
            attempt=attempt,
            detail=detail,
        )
    )


def latest(
    connection: Connection, study_id: str, limit: int, before: int | None = None
) -> tuple[list[StudyEvent], int | None]:
    """The newest events of a study, newest first, of those `before` an id; and the id to go on from, if more come."""
    older = events.c.study_id == study_id
    if before is not None:
        older &= events.c.id < before
    rows = connection.execute(select(events).where(older).order_by(events.c.id.desc()).limit(limit + 1)).all()
    found = [
        StudyEvent(at=r.at, kind=r.kind, actor=r.actor, trial=r.number, attempt=r.attempt, detail=r.detail)
        for r in rows[:limit]
    ]
    return found, rows[limit - 1].id if len(rows) > limit else None


def waiting_for(connection: Connection, study_id: str) -> str | None:
    """What the study waits for, as long as nothing has happened since it said so."""
    row = connection.execute(
        select(events.c.kind, events.c.detail)
        .where(events.c.study_id == study_id)
        .order_by(events.c.id.desc())
        .limit(1)
    ).one_or_none()
    return str(row.detail["for"]) if row is not None and row.kind == "waiting" else None
