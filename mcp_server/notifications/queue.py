"""Notifications that are owed: rows written in the transaction that ends a study, so that no death loses one."""

import time
from typing import NamedTuple

from sqlalchemy import Connection, exists, func, insert, select, update

from mcp_server.notifications.message import Channel, StudyEnded
from mcp_server.settings import Settings
from mcp_server.store.schema import notifications

MAX_TRIES = 20


class Owed(NamedTuple):
    """A notification that nobody is known to have received."""

    id: str
    channel: Channel
    payload: dict[str, object]
    tries: int


def channels(settings: Settings) -> list[Channel]:
    """The channels that are configured."""
    asked: dict[Channel, object] = {"webhook": settings.notify_webhook, "command": settings.notify_command}
    return [channel for channel, configured in asked.items() if configured]


def owe(connection: Connection, channel: Channel, message: StudyEnded) -> None:
    """Owe a notification as part of the caller's transaction."""
    connection.execute(
        insert(notifications).values(
            id=message.id,
            study_id=message.study_id,
            channel=channel,
            payload=message.model_dump(mode="json"),
            created_at=time.time(),
            state="queued",
        )
    )


def has_owed(connection: Connection) -> bool:
    """Whether a notification waits to be delivered."""
    return bool(connection.scalar(select(exists().where(notifications.c.state == "queued"))))


def owed(connection: Connection) -> list[Owed]:
    """What waits to be delivered, oldest first."""
    waiting = select(notifications).where(notifications.c.state == "queued").order_by(notifications.c.created_at)
    return [Owed(row.id, row.channel, row.payload, row.tries) for row in connection.execute(waiting)]


def delivered(connection: Connection, notification_id: str) -> None:
    """Record that it was received."""
    _set(connection, notification_id, state="done", done_at=time.time(), error=None)


def failed(connection: Connection, notification_id: str, tries: int, error: str) -> None:
    """Record that it was not received; after many tries it is given up."""
    _set(connection, notification_id, tries=tries, error=error, state="queued" if tries < MAX_TRIES else "given_up")


def given_up(connection: Connection) -> int:
    """How many were tried too often."""
    lost = notifications.c.state == "given_up"
    return connection.scalar(select(func.count()).select_from(notifications).where(lost)) or 0


def try_again(connection: Connection) -> None:
    """Owe what was given up once more."""
    lost = notifications.c.state == "given_up"
    connection.execute(update(notifications).where(lost).values(state="queued", tries=0))


def troubles(connection: Connection, study_id: str | None = None) -> list[str]:
    """Why people were not told of an end, of one study or of all, in sentences."""
    mine = (notifications.c.state != "done") & notifications.c.error.is_not(None)
    if study_id is not None:
        mine &= notifications.c.study_id == study_id
    rows = connection.execute(select(notifications).where(mine).order_by(notifications.c.created_at)).all()
    return [
        f"The notification by {row.channel} was not received ({row.tries} tries"
        f"{', given up' if row.state == 'given_up' else ''}): {row.error}"
        for row in rows
    ]


def _set(connection: Connection, notification_id: str, **values: object) -> None:
    connection.execute(update(notifications).where(notifications.c.id == notification_id).values(**values))
