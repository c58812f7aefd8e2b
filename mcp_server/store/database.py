"""Short transactions on the workspace database, the same on SQLite and PostgreSQL."""

import shutil
import sqlite3
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, TypeVar

import sqlalchemy.orm  # noqa: F401 - queries of every thread fail while another one, say Optuna's, imports it
from sqlalchemy import Connection, Engine, create_engine, event, insert, select
from sqlalchemy.exc import DatabaseError, OperationalError
from sqlalchemy.pool import ConnectionPoolEntry

from mcp_server.errors import BackendUnavailableError, DatabaseAwayError
from mcp_server.store import migrations, schema
from mcp_server.store.locks import KernelLock
from mcp_server.store.patience import Patience

BUSY_TIMEOUT_S = 60.0
DISK_FULL = "disk full"
_NO_ROOM_BYTES = 2**16
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
_PRIMARY = 0xFF  # the part of an extended result code that names its family

Returned = TypeVar("Returned")


class Store:
    """The workspace database in `folder`, created on first use. Safe to share between threads.

    A transaction waits `busy_timeout_s` seconds for others that write. With `patience`, `insist` waits for longer.
    """

    def __init__(
        self, folder: Path, *, patience: Patience | None = None, busy_timeout_s: float = BUSY_TIMEOUT_S
    ) -> None:
        self.folder = folder
        self._patience = patience
        self._busy_timeout_s = busy_timeout_s
        self.path = folder / "workspace.db"
        self._engine: Engine | None = None
        self._opening = threading.Lock()

    @contextmanager
    def read(self) -> Iterator[Connection]:
        """A connection that sees one consistent state; nothing is written."""
        with self._translated(), self._opened().connect() as connection:
            yield connection

    @contextmanager
    def write(self, *, durable: bool = False) -> Iterator[Connection]:
        """A transaction that holds the write lock from its first statement and commits at the end of the block.

        `durable` waits until the disk has it: for the commits that other stores follow.

        Raises:
            DatabaseAwayError: If another process keeps the database locked for a minute, or the disk is full.
            BackendUnavailableError: If it is damaged, or of a newer version.
        """
        with self._translated(), self._opened().connect() as connection:
            connection.info["synchronous"] = "FULL" if durable else "NORMAL"
            try:
                with connection.begin():
                    yield connection
            finally:
                del connection.info["synchronous"]

    def insist(self, unit: Callable[[], Returned]) -> Returned:
        """What `unit` returns, a transaction that is repeated while the database is away if this store is patient."""
        return unit() if self._patience is None else self._patience.insist(unit)

    def close(self) -> None:
        """Give the connections back; the next use opens them again."""
        with self._opening:
            if self._engine is not None:
                self._engine.dispose()
            self._engine = None

    def _opened(self) -> Engine:
        with self._opening:
            if self._engine is None:
                self._engine = self._open()
            return self._engine

    def _open(self) -> Engine:
        self.folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        engine = create_engine(f"sqlite:///{self.path}", connect_args={"timeout": self._busy_timeout_s}, pool_size=32)
        event.listen(engine, "connect", _prepare)
        event.listen(engine, "begin", _begin)
        with KernelLock(self.folder / "schema.lock"):
            migrations.bring_up(engine, self.path)
            with engine.connect() as connection:
                connection.info["synchronous"] = "FULL"
                with connection.begin():
                    schema.metadata.create_all(connection)
                    _check_version(connection)
                    migrations.stamp(connection)
                del connection.info["synchronous"]
        return engine

    @contextmanager
    def _translated(self) -> Iterator[None]:
        try:
            yield
        except DatabaseError as exc:
            if type(exc) not in {DatabaseError, OperationalError}:
                raise  # a constraint that does not hold is a bug, not a database that cannot be used
            # A file that is gone does not come back: whoever waited for it would wait for ever.
            message = f"The workspace database cannot be used: {exc.orig}."
            hint = "tuning-mcp doctor says what is wrong; check the folder's disk space and permissions."
            if _passes(exc.orig) and self.path.exists():
                raise DatabaseAwayError(message, hint=hint, reason=self._reason(exc.orig)) from exc
            raise BackendUnavailableError(message, hint=hint) from exc

    def _reason(self, exc: BaseException | None) -> str:
        code = _family(exc)
        if code in {sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED}:
            return "database locked"
        if code == sqlite3.SQLITE_FULL:
            return DISK_FULL
        with suppress(OSError):
            # SQLite calls a disk that has no room for its shared memory or its log an input/output error.
            if shutil.disk_usage(self.folder).free < _NO_ROOM_BYTES:
                return DISK_FULL
        return "database away"


def _prepare(raw: Any, _entry: ConnectionPoolEntry) -> None:  # noqa: ANN401 - the driver's own connection type
    raw.isolation_level = None  # the driver must not open transactions by itself: `_begin` does
    for pragma in (
        "journal_mode=WAL",
        "synchronous=NORMAL",
        "foreign_keys=ON",
    ):
        raw.execute(f"PRAGMA {pragma}")


def _begin(connection: Connection) -> None:
    synchronous = connection.info.get("synchronous")
    if synchronous is None:
        connection.exec_driver_sql("BEGIN")
        return
    raw = connection.connection.dbapi_connection
    assert raw is not None  # noqa: S101 - a connection that begins is connected
    raw.cursor().execute(f"PRAGMA synchronous={synchronous}")
    # A deferred transaction that turns into a write later fails with SQLITE_BUSY at once instead of waiting.
    connection.exec_driver_sql("BEGIN IMMEDIATE")


def _check_version(connection: Connection) -> None:
    table = schema.workspace_info
    found = connection.execute(select(table.c.value).where(table.c.key == "schema_version")).scalar()
    if found is None:
        connection.execute(insert(table).values(key="schema_version", value=str(schema.SCHEMA_VERSION)))
        connection.execute(insert(table).values(key="created_at", value=str(time.time())))
    elif int(found) > schema.SCHEMA_VERSION:
        raise BackendUnavailableError(
            f"The workspace was written by a newer version (schema {found}, this one knows {schema.SCHEMA_VERSION}).",
            hint="Upgrade tuning-mcp, or choose another workspace.",
        )


def _passes(exc: BaseException | None) -> bool:
    return isinstance(exc, sqlite3.OperationalError) and _family(exc) in _PASSING


def _family(exc: BaseException | None) -> int:
    return int(getattr(exc, "sqlite_errorcode", 0)) & _PRIMARY
