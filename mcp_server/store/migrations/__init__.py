"""The workspace database from version to version: each change is a revision in `versions`, applied at its opening.

A new database is made from `schema.metadata` at once and counts as being at the last revision; a test holds the two
equal. `python -m mcp_server.store.migrations "what changed"` writes the next revision from the difference.
"""

import sqlite3
from pathlib import Path
from typing import TYPE_CHECKING, cast

from sqlalchemy import Connection, Engine, insert, inspect, select
from sqlalchemy.exc import OperationalError

from mcp_server.errors import BackendUnavailableError
from mcp_server.store.schema import revision
from mcp_server.store.writing import CREATING, marked

if TYPE_CHECKING:
    from alembic.config import Config

FOLDER = Path(__file__).parent


def head(folder: Path | None = None) -> str:
    """The last revision that this version knows."""
    return known(folder)[-1]


def known(folder: Path | None = None) -> list[str]:
    """All revisions, oldest first."""
    return sorted(file.name[1:5] for file in ((folder or FOLDER) / "versions").glob("v[0-9][0-9][0-9][0-9]_*.py"))


def found(connection: Connection) -> str | None:
    """The revision of a database; None of one that is empty, or older than all revisions."""
    if not inspect(connection).has_table(revision.name):
        return None
    return connection.scalar(select(revision.c.version_num))


def stamp(connection: Connection) -> None:
    """Say that a database without a revision is at the last one."""
    if connection.scalar(select(revision.c.version_num)) is None:
        connection.execute(insert(revision).values(version_num=head()))


def bring_up(engine: Engine, path: Path | None) -> None:
    """Apply the revisions that a database lacks, all or none, after copying the file at `path` if it is one.

    Raises:
        BackendUnavailableError: If it is of a newer version.
    """
    with engine.connect() as connection:
        at = found(connection)
    if at is None or at == head():
        return
    if at not in known():
        raise BackendUnavailableError(
            f"The workspace was written by a newer version (revision {at}, this one knows {head()}).",
            hint="Upgrade tuning-mcp, or choose another workspace.",
        )
    with engine.connect() as connection:
        if path is not None:
            _copy(_raw(connection), path.with_name(f"{path.name}.{at}"))
            # A table that is made anew would take the rows that refer to it along.
            _raw(connection).execute("PRAGMA foreign_keys=OFF")
        try:
            with marked(connection, CREATING), connection.begin():
                apply(connection)
        finally:
            connection.invalidate()  # and its pragmas


def apply(connection: Connection, folder: Path | None = None) -> None:
    """Apply all revisions that are missing, in the caller's transaction."""
    from alembic import command

    command.upgrade(configuration(connection, folder), "head")


def configuration(connection: Connection, folder: Path | None = None) -> "Config":
    """Alembic's configuration, without a file."""
    from alembic.config import Config

    made = Config()
    made.set_main_option("script_location", str(folder or FOLDER).replace("%", "%%"))
    made.set_main_option("file_template", "v%%(rev)s_%%(slug)s")
    made.set_main_option("path_separator", "os")
    made.attributes["connection"] = connection
    return made


def _raw(connection: Connection) -> sqlite3.Connection:
    return cast("sqlite3.Connection", connection.connection.dbapi_connection)


def _copy(raw: sqlite3.Connection, to: Path) -> None:
    to.unlink(missing_ok=True)
    try:
        raw.execute("VACUUM INTO ?", (str(to),))
    except sqlite3.OperationalError as exc:
        to.unlink(missing_ok=True)
        raise OperationalError("VACUUM INTO", None, exc) from exc
    to.chmod(0o600)
