"""The workspace database as a SQLite file: the default, for one workspace on one machine."""

import shutil
import sqlite3
from contextlib import suppress
from pathlib import Path
from typing import Any

from sqlalchemy import Connection, Engine, create_engine, event
from sqlalchemy.exc import DBAPIError
from sqlalchemy.pool import ConnectionPoolEntry

from mcp_server.store.writing import DISK_FULL, Writing

# What can go away without anybody touching the file: locks, a full disk, a disk or a folder that does not answer.
_PASSING = frozenset(
    {
        sqlite3.SQLITE_BUSY,
        sqlite3.SQLITE_LOCKED,
        sqlite3.SQLITE_NOMEM,
        sqlite3.SQLITE_READONLY,
        sqlite3.SQLITE_IOERR,
        sqlite3.SQLITE_FULL,
        sqlite3.SQLITE_CANTOPEN,
        sqlite3.SQLITE_PROTOCOL,
    }
)
_NO_ROOM_BYTES = 2**16
_PRIMARY = 0xFF  # the part of an extended result code that names its family


class SQLiteFile:
    """`workspace.db` in a folder. A transaction waits `busy_timeout_s` seconds for others that write."""

    def __init__(self, folder: Path, busy_timeout_s: float) -> None:
        self.path = folder / "workspace.db"
        self._busy_timeout_s = busy_timeout_s

    def engine(self) -> Engine:
        """An engine whose connections wait for each other and keep what was committed."""
        engine = create_engine(f"sqlite:///{self.path}", connect_args={"timeout": self._busy_timeout_s}, pool_size=32)
        event.listen(engine, "connect", _prepare)
        return engine

    def begin(self, connection: Connection, writing: Writing | None) -> None:
        """Begin a transaction that writes, or one that only reads."""
        if writing is None:
            connection.exec_driver_sql("BEGIN")
            return
        raw = connection.connection.dbapi_connection
        assert raw is not None  # noqa: S101 - a connection that begins is connected
        raw.cursor().execute(f"PRAGMA synchronous={'FULL' if writing.durable else 'NORMAL'}")
        # A deferred transaction that turns into a write later fails with SQLITE_BUSY at once instead of waiting.
        connection.exec_driver_sql("BEGIN IMMEDIATE")

    def committed(self, _engine: Engine, _writing: Writing) -> bool:
        """Whether a commit that failed has happened all the same: SQLite says for certain that it has not."""
        return False

    def passing(self, exc: DBAPIError) -> str | None:
        """What is the matter, if the same again may work later; a file that is gone does not come back."""
        code = int(getattr(exc.orig, "sqlite_errorcode", 0)) & _PRIMARY
        if not isinstance(exc.orig, sqlite3.OperationalError) or code not in _PASSING or not self.path.exists():
            return None
        if code in {sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED}:
            return "database locked"
        return DISK_FULL if code == sqlite3.SQLITE_FULL or self._no_room() else "database away"

    def _no_room(self) -> bool:
        """SQLite calls a disk that has no room for its shared memory or its log an input/output error."""
        with suppress(OSError):
            return shutil.disk_usage(self.path.parent).free < _NO_ROOM_BYTES
        return False

    @property
    def present(self) -> bool:
        """Whether there is a database."""
        return self.path.exists()

    @property
    def file(self) -> Path | None:
        """The file that holds everything, if it is one."""
        return self.path

    def claim(self, connection: Connection) -> None:
        """The file is the workspace's own."""


def _prepare(raw: Any, _entry: ConnectionPoolEntry) -> None:  # noqa: ANN401 - the driver's own connection type
    raw.isolation_level = None  # the driver must not open transactions by itself: `begin` does
    for pragma in (
        "journal_mode=WAL",
        "synchronous=NORMAL",
        "foreign_keys=ON",
    ):
        raw.execute(f"PRAGMA {pragma}")
