"""Short transactions on the workspace database, the same on SQLite and PostgreSQL."""

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from functools import partial
from pathlib import Path
from typing import Protocol, TypeVar

import sqlalchemy.orm  # noqa: F401 - queries of every thread fail while another one, say Optuna's, imports it
from sqlalchemy import Connection, Engine, event, insert, select
from sqlalchemy.exc import DatabaseError, DBAPIError, InterfaceError, InternalError, OperationalError

from mcp_server.errors import BackendUnavailableError, DatabaseAwayError
from mcp_server.store import migrations, schema
from mcp_server.store.locks import KernelLock
from mcp_server.store.patience import Patience
from mcp_server.store.postgres import PostgresDatabase
from mcp_server.store.sqlite import SQLiteFile
from mcp_server.store.writing import CREATING, WRITING, Writing, marked

BUSY_TIMEOUT_S = 60.0

Returned = TypeVar("Returned")


class Database(Protocol):
    """What differs between the databases that can hold a workspace."""

    def engine(self) -> Engine:
        """An engine for the threads of one process."""

    def begin(self, connection: Connection, writing: Writing | None) -> None:
        """Begin a transaction that writes, or one that only reads."""

    def committed(self, engine: Engine, writing: Writing) -> bool:
        """Whether the commit of that transaction has happened although it failed."""

    def passing(self, exc: DBAPIError) -> str | None:
        """What is the matter, in a few words, if the same again may work later."""

    @property
    def present(self) -> bool:
        """Whether there is anything to read."""

    @property
    def file(self) -> Path | None:
        """The file that holds everything, if it is one."""

    def claim(self, connection: Connection) -> None:
        """Make sure that the database is this workspace's."""


class Store:
    """The workspace database of `folder`, created on first use. Safe to share between threads.

    It is a SQLite file in the folder, or the PostgreSQL database at `url`. A transaction waits `busy_timeout_s` seconds
    for others that write to SQLite. With `patience`, `insist` waits for longer.
    """

    def __init__(
        self,
        folder: Path,
        *,
        url: str | None = None,
        patience: Patience | None = None,
        busy_timeout_s: float = BUSY_TIMEOUT_S,
    ) -> None:
        self.folder = folder
        self._patience = patience
        self._database: Database = SQLiteFile(folder, busy_timeout_s) if url is None else PostgresDatabase(folder, url)
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
        with (
            self._translated(),
            self._opened().connect() as connection,
            marked(connection, Writing(durable)) as writing,
            closing(connection.begin()) as transaction,  # what is not committed is rolled back
        ):
            yield connection
            try:
                transaction.commit()
            except DBAPIError:
                if not self.insist(partial(self._committed, writing)):
                    raise

    def _committed(self, writing: Writing) -> bool:
        with self._translated():
            return self._database.committed(self._opened(), writing)

    def insist(self, unit: Callable[[], Returned]) -> Returned:
        """What `unit` returns, a transaction that is repeated while the database is away if this store is patient."""
        return unit() if self._patience is None else self._patience.insist(unit)

    @property
    def present(self) -> bool:
        """Whether there is a database with anything in it."""
        return self._database.present

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
        engine = self._database.engine()
        event.listen(engine, "begin", self._begin)
        with KernelLock(self.folder / "schema.lock"):
            migrations.bring_up(engine, self._database.file)
            with engine.connect() as connection, marked(connection, CREATING):
                self._prepare(connection)
        return engine

    def _prepare(self, connection: Connection) -> None:
        with connection.begin():
            schema.metadata.create_all(connection)
            _check_version(connection)
            migrations.stamp(connection)
            self._database.claim(connection)

    def _begin(self, connection: Connection) -> None:
        self._database.begin(connection, connection.info.get(WRITING))

    @contextmanager
    def _translated(self) -> Iterator[None]:
        try:
            yield
        except DBAPIError as exc:
            if type(exc) not in {DatabaseError, OperationalError, InterfaceError, InternalError}:
                raise  # a constraint that does not hold is a bug, not a database that cannot be used
            message = f"The workspace database cannot be used: {_without_secrets(exc)}."
            hint = "tuning-mcp doctor says what is wrong; check the folder's disk space and permissions."
            # Whoever waited for what does not come back would wait for ever.
            if (reason := self._database.passing(exc)) is not None:
                raise DatabaseAwayError(message, hint=hint, reason=reason) from exc
            raise BackendUnavailableError(message, hint=hint) from exc


def _without_secrets(exc: DBAPIError) -> str:
    return " ".join(str(exc.orig).split()).rstrip(".")


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
