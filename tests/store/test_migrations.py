"""The workspace database from version to version: nothing of an older one is lost, and all roads lead to one schema."""

import shutil
import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import pytest
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from sqlalchemy import Connection, create_engine

from mcp_server.errors import BackendUnavailableError
from mcp_server.store import Store, migrations
from mcp_server.store.migrations.__main__ import main
from mcp_server.store.schema import metadata

FIRST = Path(__file__).parent / "revision_0001.sql"
WIDER = '''
"""A revision that makes the table of studies anew."""

import sqlalchemy as sa
from alembic import op

revision = "{number}"
down_revision = "{before}"


def upgrade():
    with op.batch_alter_table("studies", recreate="always") as studies:
        studies.add_column(sa.Column("colour", sa.String(20), nullable=False, server_default="blue"))
    {then}
'''


@pytest.fixture
def first(tmp_path: Path) -> Path:
    """A workspace database at the first revision, with a study in it."""
    file = tmp_path / "workspace.db"
    with closing(sqlite3.connect(file)) as raw:
        raw.executescript(FIRST.read_text(encoding="utf-8"))
    return file


@contextmanager
def connected(file: Path) -> Iterator[Connection]:
    engine = create_engine(f"sqlite:///{file}")
    try:
        with engine.connect() as connection:
            yield connection
    finally:
        engine.dispose()


def differences(connection: Connection) -> list[object]:
    """What the database has and `schema.metadata` has not, or the other way round."""
    context = MigrationContext.configure(connection, opts={"compare_type": True, "compare_server_default": True})
    return list(compare_metadata(context, metadata))


def one_more(folder: Path, monkeypatch: pytest.MonkeyPatch, then: str = "") -> str:
    """The number of a further revision, which this version knows from now on."""
    number = f"{len(migrations.known()) + 1:04d}"
    text = WIDER.format(number=number, before=migrations.head(), then=then)
    shutil.copytree(migrations.FOLDER, folder, ignore=shutil.ignore_patterns("__pycache__"))
    (folder / "versions" / f"v{number}_wider.py").write_text(text, encoding="utf-8")
    monkeypatch.setattr(migrations, "FOLDER", folder)
    return number


def rows(file: Path, statement: str) -> list[tuple[object, ...]]:
    with closing(sqlite3.connect(file)) as raw:
        return raw.execute(statement).fetchall()


def test_the_revisions_lead_to_the_schema_that_a_new_database_gets(tmp_path: Path) -> None:
    with connected(tmp_path / "by_revisions.db") as connection:
        with connection.begin():
            migrations.apply(connection)
        assert migrations.found(connection) == migrations.head()
        assert differences(connection) == [], 'python -m mcp_server.store.migrations "what changed" writes a revision'


def test_one_command_writes_a_revision_for_what_the_schema_has_and_the_revisions_lack(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "revisions"
    shutil.copytree(migrations.FOLDER, folder, ignore=shutil.ignore_patterns("__pycache__", "v0*"))
    monkeypatch.setattr(migrations, "FOLDER", folder)
    monkeypatch.setattr("sys.argv", ["migrations", "All of it"])

    main()

    assert migrations.known() == ["0001"]
    with connected(tmp_path / "new.db") as connection:
        with connection.begin():
            migrations.apply(connection)
        assert differences(connection) == []


def test_a_new_database_is_at_the_last_revision(tmp_path: Path) -> None:
    with Store(tmp_path).read() as connection:
        assert migrations.found(connection) == migrations.head()
        assert differences(connection) == []
    assert [file.name for file in tmp_path.glob("workspace.db.0*")] == []


def test_a_database_of_the_first_version_is_brought_up_with_all_that_is_in_it(first: Path) -> None:
    with Store(first.parent).read() as connection:
        assert migrations.found(connection) == migrations.head()
        assert differences(connection) == []
        assert connection.exec_driver_sql("SELECT name FROM studies").scalars().all() == ["study"]
        assert connection.exec_driver_sql("SELECT count(*) FROM attempts").scalar() == 2


def test_a_revision_that_makes_a_table_anew_keeps_the_rows_that_refer_to_it_and_a_copy_from_before(
    first: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    number = one_more(tmp_path / "revisions", monkeypatch)

    with Store(first.parent).read() as connection:
        assert connection.exec_driver_sql("SELECT colour FROM studies").scalars().all() == ["blue"]
        assert connection.exec_driver_sql("PRAGMA foreign_keys").scalar() == 1

    assert rows(first, "SELECT count(*) FROM trials") == [(2,)]
    assert rows(first, "SELECT version_num FROM alembic_version") == [(number,)]
    assert rows(tmp_path / "workspace.db.0001", "SELECT version_num FROM alembic_version") == [("0001",)]
    assert rows(tmp_path / "workspace.db.0001", "SELECT count(*) FROM trials") == [(2,)]


def test_a_revision_that_fails_changes_nothing(first: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    one_more(tmp_path / "revisions", monkeypatch, then="raise ZeroDivisionError")

    with pytest.raises(ZeroDivisionError), Store(first.parent).read():
        pass

    assert rows(first, "SELECT version_num FROM alembic_version") == [("0001",)]
    assert "colour" not in str(rows(first, "SELECT sql FROM sqlite_master WHERE name = 'studies'"))
    assert rows(first, "SELECT count(*) FROM attempts") == [(2,)]


def test_a_database_of_an_unknown_revision_is_not_touched(first: Path) -> None:
    with closing(sqlite3.connect(first)) as raw, raw:
        raw.execute("UPDATE alembic_version SET version_num = '9999'")

    with pytest.raises(BackendUnavailableError, match=r"newer version.*revision 9999"), Store(first.parent).read():
        pass
