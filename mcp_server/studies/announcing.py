"""What people are told when a study ends."""

import uuid

from sqlalchemy import Connection, select

from mcp_server.notifications import queue
from mcp_server.notifications.message import StudyEnded
from mcp_server.settings import Settings
from mcp_server.store.schema import studies
from mcp_server.studies.costs import cost_of
from mcp_server.studies.digest import best_of, counts_of, noisy


def announce_end(connection: Connection, settings: Settings, study_id: str) -> None:
    """Owe the notifications about a study's end as part of the transaction that ended it."""
    if not (channels := queue.channels(settings)):
        return
    row = connection.execute(select(studies).where(studies.c.id == study_id)).one()
    counts, _ = counts_of(connection, study_id)
    best = best_of(connection, row)
    text = f"{row.state}{f' ({row.stop_reason})' if row.stop_reason else ''}, {sum(counts.values())} trials"
    if best is not None:
        text += f", best {row.metric} {noisy(best)} in trial {best.number}"
    for channel in channels:
        message = StudyEnded(
            id=uuid.uuid4().hex,
            study_id=study_id,
            study=row.name,
            state=row.state,
            reason=row.stop_reason,
            message=f"{text}.",
            metric=row.metric,
            best_value=best.value if best else None,
            best_trial=best.number if best else None,
            n_complete=counts.get("complete", 0),
            n_trials=row.n_trials,
            elapsed_s=row.elapsed_s,
            cost_usd=cost_of(connection, study_id),
            ended_at=row.ended_at,
        )
        queue.owe(connection, channel, message)
