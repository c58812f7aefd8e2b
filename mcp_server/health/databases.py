"""Whether the databases of a workspace are intact and of a version that can be used: invariant 8."""

import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

from mcp_server.errors import ConflictError
from mcp_server.health.finding import Finding
from mcp_server.health.violation import Remedy, Violation
from mcp_server.tracking.database import check_schema
from mcp_server.tracking.target import tracking_target
from mcp_server.workspace import Workspace

NAMES = ("workspace.db", "optuna.db", "mlflow.db")


def damage(path: Path) -> str | None:
    """What SQLite says is wrong with the file, None when it is intact or not there."""
    if not path.exists():
        return None
    try:
        with closing(sqlite3.connect(f"{path.as_uri()}?mode=ro", uri=True, timeout=20)) as connection:
            answer = str(connection.execute("PRAGMA integrity_check(1)").fetchone()[0])
    except sqlite3.DatabaseError as exc:
        return str(exc)
    return None if answer == "ok" else answer


def damaged(workspace: Workspace) -> Iterator[Violation]:
    """I8: every database is intact."""
    for name in NAMES:
        if text := damage(workspace.settings.workspace / name):
            remedy: Remedy | None = "mirror" if name == "optuna.db" else None
            yield Violation("I8", f"{name} is damaged: {text}", remedy=remedy, subject=name)


def databases(workspace: Workspace) -> Iterator[Finding]:
    """What can be said of the databases besides damage."""
    for name in NAMES:
        path = workspace.settings.workspace / name
        if path.exists() and damage(path) is None:
            yield Finding("ok", f"{name} is intact.")
    file = tracking_target(workspace.settings).database
    if file is None or not file.exists() or damage(file) is not None:
        return
    try:
        check_schema(file)
    except ConflictError as exc:
        yield Finding("problem", exc.message, exc.hint)
    else:
        yield Finding("ok", f"{file.name} has the schema of the installed mlflow.")
