"""The workspace database on a PostgreSQL server."""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from threading import Barrier
from typing import Any
from unittest import mock

import psycopg
import pytest
from sqlalchemy import func, insert, select, update
from sqlalchemy.exc import IntegrityError

from mcp_server.errors import (
    BackendUnavailableError,
    DatabaseAwayError,
    InvalidRequestError,
    MissingDependencyError,
)
from mcp_server.settings import Settings
from mcp_server.store import Patience, Store, insistent
from mcp_server.store.schema import plans, workspace_info
from mcp_server.workspace import Workspace
from tests.postgres import Server


@pytest.fixture
def url(postgres: Server) -> str:
    return postgres.fresh_url()


@pytest.fixture
def store(tmp_path: Path, url: str) -> Iterator[Store]:
    opened = Store(tmp_path, url=url)
    yield opened
    opened.close()


def plan(name: str) -> dict[str, object]:
    return {"id": name, "owner": "me", "spec": {"n": 1}, "created_at": 1.0}


def names(store: Store) -> list[str]:
    try:
        with store.read() as connection:
            return sorted(connection.scalars(select(plans.c.id)))
    finally:
        store.close()  # it opens itself again; connections of many tests are many descriptors


def test_what_one_store_commits_another_one_reads(store: Store, tmp_path: Path, url: str) -> None:
    with store.write(durable=True) as connection:
        connection.execute(insert(plans).values(plan("a")))

    assert names(Store(tmp_path, url=url)) == ["a"]
    assert not (tmp_path / "workspace.db").exists()


def test_a_block_that_raises_commits_nothing(store: Store) -> None:
    def add_twice() -> None:
        with store.write() as connection:
            for _ in range(2):
                connection.execute(insert(plans).values(plan("a")))

    with pytest.raises(IntegrityError):
        add_twice()

    assert names(store) == []


def test_those_who_write_wait_for_each_other_from_the_start(store: Store) -> None:
    meeting = Barrier(8, timeout=60)

    def count_up(_: int) -> None:
        meeting.wait()
        for _ in range(5):
            with store.write() as connection:
                seen = connection.scalar(select(func.count()).select_from(plans)) or 0
                connection.execute(insert(plans).values(plan(f"{seen:03d}")))

    with ThreadPoolExecutor(8) as threads:
        list(threads.map(count_up, range(8)))

    assert names(store) == [f"{number:03d}" for number in range(40)]


def test_a_reader_sees_one_state_whatever_is_written_meanwhile(store: Store) -> None:
    with store.read() as connection:
        before = connection.scalar(select(func.count()).select_from(plans))
        with store.write() as writing:
            writing.execute(insert(plans).values(plan("a")))
        assert connection.scalar(select(func.count()).select_from(plans)) == before == 0


@pytest.mark.parametrize("durable", [True, False])
def test_every_transaction_waits_for_the_disk_as_the_server_may_crash_alone(
    tmp_path: Path, url: str, durable: bool
) -> None:
    store = Store(tmp_path, url=f"{url}%20-csynchronous_commit%3Doff")
    with store.write(durable=durable) as connection:
        assert connection.exec_driver_sql("SHOW synchronous_commit").scalar() == "on"


class Adder:
    """Adds plans, again and again until it succeeds."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self.tries = 0

    @insistent
    def add(self, name: str) -> str:
        self.tries += 1
        with self._store.write(durable=True) as connection:
            connection.execute(insert(plans).values(plan(name)))
        return name


@contextmanager
def losing_replies(store: Store, *, done: bool) -> Iterator[None]:
    """The connection breaks once at a commit: after the server has `done` it, or before it has heard of it."""
    with store.read() as connection:
        dialect = connection.engine.dialect
    original, left = dialect.do_commit, [1]

    def commit(raw: Any) -> None:
        if not left:
            return original(raw)
        left.clear()
        if done:
            original(raw)
        raw.driver_connection.close()
        raise psycopg.OperationalError("server closed the connection unexpectedly")

    with mock.patch.object(dialect, "do_commit", commit):
        yield


@pytest.mark.parametrize(("done", "tries"), [(True, 1), (False, 2)])
def test_a_commit_whose_reply_is_lost_happens_once(tmp_path: Path, url: str, done: bool, tries: int) -> None:
    store = Store(tmp_path, url=url, patience=Patience(lambda _: None))
    adder = Adder(store)
    with losing_replies(store, done=done):
        assert adder.add("a") == "a"

    assert (names(store), adder.tries) == (["a"], tries)


def test_who_does_not_wait_is_told_that_the_database_is_away_and_nothing_was_written(store: Store) -> None:
    def add() -> None:
        with store.write() as connection:
            connection.execute(insert(plans).values(plan("a")))

    with losing_replies(store, done=False), pytest.raises(DatabaseAwayError):
        add()
    assert names(store) == []


@pytest.mark.process
def test_a_store_that_waits_outlives_a_crash_of_the_server(tmp_path: Path, postgres: Server) -> None:
    tries = []

    def pause(_: float) -> None:
        tries.append(1)
        if len(tries) == 2:
            postgres.start()

    store = Store(tmp_path, url=postgres.fresh_url(), patience=Patience(pause))
    adder = Adder(store)
    adder.add("before")
    postgres.stop("immediate")

    adder.add("after")

    assert names(store) == ["after", "before"]
    assert len(tries) == 2


def test_a_connection_that_somebody_cuts_is_replaced(store: Store, postgres: Server) -> None:
    assert names(store) == []
    postgres.execute("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = 'tuning-mcp'")

    assert names(store) == []


def test_a_database_belongs_to_one_workspace_folder(store: Store, tmp_path: Path, url: str) -> None:
    assert names(store) == []
    other = Store(tmp_path / "other", url=url)

    with pytest.raises(BackendUnavailableError, match="belongs to another workspace"):
        names(other)
    (tmp_path / "other" / "home").write_text((tmp_path / "home").read_text(encoding="utf-8"), encoding="utf-8")
    assert names(Store(tmp_path / "other", url=url)) == []


def test_a_database_of_a_newer_version_is_not_touched(store: Store, tmp_path: Path, url: str) -> None:
    with store.write() as connection:
        connection.execute(update(workspace_info).where(workspace_info.c.key == "schema_version").values(value="9999"))

    with pytest.raises(BackendUnavailableError, match="newer version"):
        names(Store(tmp_path, url=url))


@pytest.mark.parametrize("change", [("s3cret-word", "wr0ng-word"), ("tuning:", "nobody:"), ("/postgres?", "/nowhere?")])
def test_what_waiting_cannot_mend_is_said_at_once_and_without_the_password(
    tmp_path: Path, url: str, change: tuple[str, str]
) -> None:
    store = Store(tmp_path, url=url.replace(*change), patience=Patience(lambda _: pytest.fail("it waited")))

    with pytest.raises(BackendUnavailableError) as refused:
        store.insist(lambda: names(store))
    assert not isinstance(refused.value, DatabaseAwayError)
    assert "word" not in str(refused.value).replace("password", "")


def test_a_server_that_is_not_there_is_waited_for(tmp_path: Path, postgres: Server) -> None:
    nowhere = postgres.fresh_url().replace(f":{postgres.port}/", ":1/")

    with pytest.raises(DatabaseAwayError, match="connection failed"):
        names(Store(tmp_path, url=nowhere))


def test_the_address_is_a_secret_and_only_postgresql_is_taken(tmp_path: Path) -> None:
    environment = {"TUNING_DATABASE_URL": "mysql://root:hunter2@h/d"}
    with pytest.raises(InvalidRequestError, match="must begin with postgresql://") as refused:
        Settings.load(environment, workspace=tmp_path)
    assert "hunter2" not in str(refused.value)

    settings = Settings.load({"TUNING_DATABASE_URL": "postgresql://u:hunter2@h/d"}, workspace=tmp_path)
    assert "hunter2" not in repr(settings)
    assert settings.environment()["TUNING_DATABASE_URL"] == "postgresql://u:hunter2@h/d"


def test_without_its_driver_the_line_that_installs_it_is_given(
    tmp_path: Path, url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(__import__("sys").modules, "psycopg", None)

    with pytest.raises(MissingDependencyError, match=r"tuning-mcp\[postgres\]"):
        names(Store(tmp_path, url=url))


@pytest.mark.parametrize("database_url", ["postgresql"], indirect=True)
def test_a_workspace_on_a_server_is_not_taken_for_one_that_is_not_there(workspace: Workspace) -> None:
    assert not workspace.store.present
    assert workspace.studies.read.page().total == 0
    assert workspace.store.present
