"""MLflow's SQLite file: made once and whole, and opened only if this mlflow wrote its schema."""

import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Any

from mcp_server.errors import BackendUnavailableError, ConflictError
from mcp_server.store import KernelLock


def prepare_database(path: Path, artifacts: Path) -> None:
    """Make the database at `path` if there is none, and check that the installed mlflow may open it.

    mlflow takes no lock while it creates its tables (processes that start together break each other), cannot go on
    with a half made file, and migrates an older file on opening, one way and without asking: hence the lock, the draft
    that is moved into place, and the check by sqlite3.

    Raises:
        BackendUnavailableError: If the folder cannot be written, or another process keeps the lock.
        ConflictError: If another version of mlflow, or something else, wrote the file.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with KernelLock(path.with_name(f"{path.name}.lock")):
            if not path.exists() or path.stat().st_size == 0:
                _create(path, artifacts)
    except OSError as exc:
        raise BackendUnavailableError(
            f"The MLflow database {path} cannot be created: {exc.strerror or exc}.",
            hint="Check the folder's permissions and free space, or set another tracking_uri.",
        ) from exc
    check_schema(path)


def check_schema(path: Path) -> None:
    """Return if the installed mlflow can open the database at `path` without changing its schema.

    Raises:
        ConflictError: If it cannot.
    """
    found = _revision(path)
    known, head = _known_revisions()
    if found == head:
        return
    if found in known:
        raise ConflictError(
            f"{path} was written by an older mlflow (schema {found}).",
            hint=f"Back it up, then run: mlflow db upgrade sqlite:///{path}",
        )
    raise ConflictError(
        f"{path} was written by a newer mlflow (schema {found}, the installed one knows up to {head}).",
        hint="Upgrade mlflow in this environment, or set another tracking_uri.",
    )


def keep_statistics(path: Path) -> None:
    """Give SQLite's planner the statistics without which a sorted search of runs takes quadratic time."""
    with closing(sqlite3.connect(path, timeout=5.0, isolation_level=None)) as raw:
        for statement in ("PRAGMA analysis_limit=400", "ANALYZE runs", "ANALYZE latest_metrics"):
            raw.execute(statement)


def use_fast_journal() -> None:
    """Give every SQLite connection that this process opens from now on a write-ahead log: 6 times faster runs."""
    from sqlalchemy import Engine, event

    if not event.contains(Engine, "connect", _set_pragmas):
        event.listen(Engine, "connect", _set_pragmas)


def _set_pragmas(raw: Any, _entry: object) -> None:  # noqa: ANN401 - the driver's own connection type
    if isinstance(raw, sqlite3.Connection):
        raw.execute("PRAGMA journal_mode=WAL")
        raw.execute("PRAGMA synchronous=NORMAL")


def _create(path: Path, artifacts: Path) -> None:
    from mlflow.store.tracking.sqlalchemy_store import SqlAlchemyStore

    draft = path.with_name(f"{path.name}.new")
    for leftover in path.parent.glob(f"{draft.name}*"):
        leftover.unlink()
    SqlAlchemyStore(f"sqlite:///{draft}", artifacts.as_uri()).engine.dispose()
    with closing(sqlite3.connect(draft)) as raw:
        raw.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    draft.replace(path)


def _revision(path: Path) -> str:
    try:
        # Not read-only: a journal that a killed process left has to be rolled back before anything can be read.
        with closing(sqlite3.connect(f"{path.as_uri()}?mode=rw", uri=True, timeout=20.0)) as raw:
            return str(raw.execute("SELECT version_num FROM alembic_version").fetchone()[0])
    except (sqlite3.DatabaseError, TypeError) as exc:
        raise ConflictError(
            f"{path} is not an MLflow database: {exc}.", hint="Set a tracking_uri that names another file."
        ) from exc


def _known_revisions() -> tuple[set[str], str | None]:
    import mlflow
    from alembic.script import ScriptDirectory

    scripts = ScriptDirectory(str(Path(mlflow.__file__).parent / "store" / "db_migrations"))
    return {script.revision for script in scripts.walk_revisions()}, scripts.get_current_head()
