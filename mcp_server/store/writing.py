"""A transaction that writes, as far as the database has to know of it."""

import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

from sqlalchemy import Connection

DISK_FULL = "disk full"
"""Why a database is away that only needs room."""
WRITING = "tuning.writing"
"""Where `Connection.info` says what kind of transaction begins next; one that only reads when it says nothing."""


@dataclass(frozen=True)
class Writing:
    """Whether a transaction waits for the disk, and a name by which it is known again if it leaves one."""

    durable: bool
    leaves_token: bool = True
    token: str = field(default_factory=lambda: uuid.uuid4().hex)


CREATING = Writing(durable=True, leaves_token=False)  # there may be no table for a token yet


@contextmanager
def marked(connection: Connection, writing: Writing) -> Iterator[Writing]:
    """The transaction that begins on the connection next: one that writes."""
    info = connection.info
    info[WRITING] = writing
    try:
        yield writing
    finally:
        info.pop(WRITING, None)  # gone already if the connection broke
