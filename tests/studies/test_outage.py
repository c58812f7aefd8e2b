"""A study whose database is locked, full or gone while it runs: the real loop, the real ledger, SQLite's own errors."""

import sqlite3
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from types import SimpleNamespace

import pytest
from sqlalchemy import Connection, Engine, ExceptionContext, event
from sqlalchemy.exc import OperationalError

from mcp_server.errors import BackendUnavailableError
from mcp_server.health import check_invariants
from mcp_server.store import Patience, Store
from mcp_server.studies.ledger import Ledger
from mcp_server.workspace import Workspace
from tests.studies.running import callable_spec, run_inline

PLENTY = 2**30  # pages


class Outage:
    """What a test's runner does between two tries: the outage ends at the `lasts`-th of them."""

    def __init__(self, over: Callable[[], object], lasts: int = 3) -> None:
        self._over = over
        self._lasts = lasts
        self.tries = 0

    def __call__(self, _seconds: float) -> None:
        self.tries += 1
        if self.tries == self._lasts:
            self._over()


@contextmanager
def locked(path: Path) -> Iterator[sqlite3.Connection]:
    """Somebody else who holds the database's write lock."""
    with closing(sqlite3.connect(path, isolation_level=None)) as somebody:
        somebody.execute("BEGIN IMMEDIATE")
        yield somebody


@contextmanager
def full(path: Path) -> Iterator[Callable[[], None]]:
    """SQLite finds no room for another page, on every connection, until the returned function is called."""
    raws: list[sqlite3.Connection] = []
    with closing(sqlite3.connect(path)) as look:
        pages = [look.execute("PRAGMA page_count").fetchone()[0]]

    def limit(raw: sqlite3.Connection, _record: object) -> None:
        raw.execute(f"PRAGMA max_page_count={pages[0]}")
        raws.append(raw)

    def room() -> None:
        pages[0] = PLENTY
        for raw in raws:
            raw.execute(f"PRAGMA max_page_count={PLENTY}")

    event.listen(Engine, "connect", limit)
    try:
        yield room
    finally:
        event.remove(Engine, "connect", limit)


def file_of(workspace: Workspace) -> Path:
    return workspace.settings.workspace / "workspace.db"


def start(workspace: Workspace, n_trials: int = 6) -> None:
    workspace.studies.start(callable_spec(n_trials=n_trials), "tester")


def has_run(workspace: Workspace, n_trials: int = 6) -> None:
    """The study ended with each trial once, in one attempt, and nothing contradicts anything."""
    status = workspace.studies.read.status("study")
    assert (status.state, status.stop_reason, status.n_complete) == ("finished", "trials", n_trials)
    jobs = workspace.studies.read.jobs("study")
    assert [(job.trial, job.attempt, job.state) for job in jobs] == [(n, 0, "completed") for n in range(n_trials)]
    assert check_invariants(workspace) == []


def impatient(workspace: Workspace, outage: Outage) -> Store:
    """A runner's store that notices a lock at once."""
    return Store(workspace.settings.workspace, patience=Patience(outage), busy_timeout_s=0.0)


def test_a_study_waits_for_a_database_that_somebody_keeps_locked_and_goes_on(workspace: Workspace) -> None:
    start(workspace)
    with locked(file_of(workspace)) as somebody:
        outage = Outage(lambda: somebody.execute("ROLLBACK"))
        run_inline(workspace, store=impatient(workspace, outage))

    assert outage.tries == 3
    has_run(workspace)


@pytest.mark.parametrize("commit", [0, 2, 9])
def test_a_commit_that_the_disk_refuses_is_repeated_whole(workspace: Workspace, commit: int) -> None:
    start(workspace)
    outage = Outage(lambda: None, lasts=1)
    store = impatient(workspace, outage)
    _refuse_commit(store, commit)

    run_inline(workspace, store=store)

    assert outage.tries == 1
    has_run(workspace)


def _refuse_commit(store: Store, number: int) -> None:
    """Have the disk be full at the store's commit of this number, after its rows were written."""
    with store.read() as connection:
        engine = connection.engine
    left = [number]

    def count(_connection: Connection) -> None:
        left[0] -= 1
        if left[0] == -1:
            full = sqlite3.OperationalError("database or disk is full")
            full.sqlite_errorcode = sqlite3.SQLITE_FULL
            raise OperationalError("COMMIT", None, full)

    event.listen(engine, "commit", count)


def test_a_full_disk_is_a_pause_that_ends_by_itself_and_loses_nothing(workspace: Workspace) -> None:
    start(workspace, n_trials=40)
    with full(file_of(workspace)) as room:
        outage = Outage(room)
        run_inline(workspace, store=impatient(workspace, outage))

    assert outage.tries == 3
    has_run(workspace, n_trials=40)


def test_a_damaged_database_is_not_waited_for(workspace: Workspace) -> None:
    start(workspace)
    outage = Outage(lambda: None)
    store = impatient(workspace, outage)
    workspace.store.close()
    file_of(workspace).write_bytes(b"this is not a database at all" * 100)

    with pytest.raises(BackendUnavailableError, match="not a database"):
        Ledger(store, workspace.settings, "any")

    assert outage.tries == 0


def test_the_trials_that_optuna_shows_are_complete_after_its_file_found_no_room(
    workspace: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("mcp_server.studies.mirror.RETRY_S", 0.01)
    monkeypatch.setattr("optuna.storages._rdb.storage.time", SimpleNamespace(sleep=lambda _seconds: None))
    path = workspace.settings.workspace / "optuna.db"
    workspace.studies.start(callable_spec("earlier", n_trials=2), "tester")
    run_inline(workspace, "earlier")
    start(workspace, n_trials=40)
    refused = []

    with _no_room_in(path) as room:

        def give_room_later(context: ExceptionContext) -> None:
            if getattr(context.original_exception, "sqlite_errorcode", 0) == sqlite3.SQLITE_FULL:
                refused.append(context)
                if len(refused) == 7:  # Optuna itself tries five times
                    room()

        event.listen(Engine, "handle_error", give_room_later)
        try:
            run_inline(workspace)
        finally:
            event.remove(Engine, "handle_error", give_room_later)

    assert len(refused) == 7
    has_run(workspace, n_trials=40)


@contextmanager
def _no_room_in(path: Path) -> Iterator[Callable[[], None]]:
    """`full` for one file, whatever else the process has open."""
    raws: list[sqlite3.Connection] = []
    with closing(sqlite3.connect(path)) as look:
        pages = [look.execute("PRAGMA page_count").fetchone()[0]]

    def limit(raw: sqlite3.Connection, _record: object) -> None:
        if raw.execute("PRAGMA database_list").fetchone()[2] == str(path):
            raw.execute(f"PRAGMA max_page_count={pages[0]}")
            raws.append(raw)

    def room() -> None:
        pages[0] = PLENTY
        for raw in raws:
            raw.execute(f"PRAGMA max_page_count={PLENTY}")

    event.listen(Engine, "connect", limit)
    try:
        yield room
    finally:
        event.remove(Engine, "connect", limit)
