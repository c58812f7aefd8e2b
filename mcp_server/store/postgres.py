"""The workspace database on a PostgreSQL server, for teams that have one to look after and to back up.

One database, or one schema of it, belongs to one workspace folder: its logs, its data and its MLflow store lie there,
and so do the locks that make sure that nobody does the same work twice.
"""

import time
import uuid
from pathlib import Path

from sqlalchemy import Connection, Engine, create_engine, delete, exists, insert, select, text
from sqlalchemy.engine import make_url
from sqlalchemy.exc import ArgumentError, DBAPIError

from mcp_server.errors import BackendUnavailableError, InvalidRequestError, MissingDependencyError
from mcp_server.store import schema
from mcp_server.store.writing import DISK_FULL, Writing

CONNECT_S = 10
_KEEP_S = 86_400.0  # who asks whether a commit happened asks soon
_WRITERS = 0x7475_6E69_6E67  # the advisory lock of those who write; any number that nobody else uses
# SQLSTATEs and classes of those that another try cannot help: authorisation, a database or role that is not there,
# a statement that is wrong. See "PostgreSQL Error Codes" in its documentation.
_LASTING = ("28", "3D", "3F", "42", "22", "23", "0A")
_NO_ROOM = "53100"
_NEVER = ("authentication failed", "does not exist", "no pg_hba.conf entry")


class PostgresDatabase:
    """The tables of a workspace in the database that `url` names.

    Raises:
        InvalidRequestError: If the address is not one of PostgreSQL.
        MissingDependencyError: If its driver is not installed.
    """

    def __init__(self, folder: Path, url: str) -> None:
        self._home = folder / "home"
        self._url = _checked(url)

    def engine(self) -> Engine:
        """An engine that looks whether a connection still lives before it is used."""
        try:
            return create_engine(
                self._url,
                pool_size=32,
                pool_pre_ping=True,
                connect_args={"connect_timeout": CONNECT_S, "application_name": "tuning-mcp"},
                isolation_level="READ COMMITTED",
            )
        except ModuleNotFoundError as exc:
            raise MissingDependencyError(
                "The driver for PostgreSQL is not installed.", hint='pip install "tuning-mcp[postgres]"'
            ) from exc

    def begin(self, connection: Connection, writing: Writing | None) -> None:
        """Begin a transaction that writes, or one that only reads.

        Those who write wait for each other from their first statement, as with SQLite, so that what they have read is
        still so when they write. All transactions of ours are short. Each waits for the disk: a server may crash while
        the runner lives on, and what the runner was told is committed must not be gone then.
        """
        if writing is None:
            connection.exec_driver_sql("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ READ ONLY")
            return
        wait = text("SELECT set_config('synchronous_commit', 'on', true), pg_advisory_xact_lock(:key)")
        connection.execute(wait, {"key": _WRITERS})
        if writing.leaves_token:
            connection.execute(insert(schema.commits).values(token=writing.token, at=time.time()))

    def committed(self, engine: Engine, writing: Writing) -> bool:
        """Whether a commit has happened whose reply was lost: then the row is there that it left.

        The lock makes sure that the server is done with that transaction, one way or the other. Its own numbers
        of transactions would not do: after a crash it gives some of them out once more.
        """
        with engine.connect() as asking, asking.begin():
            return bool(asking.scalar(select(exists().where(schema.commits.c.token == writing.token))))

    def passing(self, exc: DBAPIError) -> str | None:
        """What is the matter, if the same again may work later: the server restarts, or does not answer, or is full."""
        state = getattr(exc.orig, "sqlstate", None)
        if state is None:
            return None if any(never in str(exc.orig) for never in _NEVER) else "database away"
        if state.startswith(_LASTING):
            return None
        return DISK_FULL if state == _NO_ROOM else "database away"

    @property
    def present(self) -> bool:
        """Whether the workspace has been used."""
        return self._home.exists()

    @property
    def file(self) -> Path | None:
        """The file that holds everything, if it is one."""
        return None

    def claim(self, connection: Connection) -> None:
        """Make the database this workspace's, or find that it is.

        Raises:
            BackendUnavailableError: If it is another workspace's.
        """
        table, old = schema.workspace_info, schema.commits.c.at < time.time() - _KEEP_S
        connection.execute(delete(schema.commits).where(old))
        mine = self._home.read_text(encoding="utf-8").strip() if self._home.exists() else None
        theirs = connection.scalar(select(table.c.value).where(table.c.key == "home"))
        if theirs is None:
            theirs = mine or uuid.uuid4().hex
            connection.execute(insert(table).values(key="home", value=theirs))
            mine = None
        elif theirs != mine:
            raise BackendUnavailableError(
                f"The database belongs to another workspace, whose folder has a file `home` with {theirs}.",
                hint="Use that folder, or a database or schema of its own for this one.",
            )
        if mine is None:
            self._home.write_text(theirs + "\n", encoding="utf-8")


def _checked(address: str) -> str:
    try:
        url = make_url(address)
    except (ArgumentError, ValueError) as exc:
        raise InvalidRequestError("database_url is not an address.", hint=_HINT) from exc
    if url.drivername not in {"postgresql", "postgres"}:
        raise InvalidRequestError(f"database_url names {url.drivername}.", hint=_HINT)
    return url.set(drivername="postgresql+psycopg").render_as_string(hide_password=False)


_HINT = "For example postgresql://user:password@host/tuning."
