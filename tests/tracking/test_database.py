import hashlib
import shutil
import sqlite3
import subprocess
import sys
from contextlib import closing

import pytest

from mcp_server.errors import BackendUnavailableError, ConflictError, MissingDependencyError
from mcp_server.settings import Settings
from mcp_server.tracking.database import keep_statistics, prepare_database
from mcp_server.tracking.mlflow import MlflowTracker
from mcp_server.tracking.target import tracking_target


@pytest.fixture
def database(tmp_path, migrated):
    path = tmp_path / "mlflow.db"
    shutil.copyfile(migrated, path)
    return path


def set_revision(path, revision):
    with closing(sqlite3.connect(path)) as raw, raw:
        raw.execute("UPDATE alembic_version SET version_num = ?", (revision,))


def digest(path):
    return hashlib.sha256(path.read_bytes()).hexdigest()


@pytest.mark.parametrize(
    ("revision", "message"),
    [("ffffffffffff", "newer mlflow.*Upgrade mlflow"), ("451aebb31d03", "older mlflow.*mlflow db upgrade")],
)
def test_a_database_of_another_mlflow_is_refused_and_left_as_it_is(database, tmp_path, revision, message):
    set_revision(database, revision)
    before = digest(database)
    with pytest.raises(ConflictError, match=message):
        prepare_database(database, tmp_path / "artifacts")
    assert digest(database) == before


@pytest.mark.parametrize("content", ["not a database" * 100, None], ids=["text", "another application's"])
def test_a_file_that_is_no_mlflow_database_is_refused(tmp_path, content):
    path = tmp_path / "other.db"
    if content is None:
        with closing(sqlite3.connect(path)) as raw, raw:
            raw.execute("CREATE TABLE mine (a)")
    else:
        path.write_text(content)
    with pytest.raises(ConflictError, match="not an MLflow database"):
        prepare_database(path, tmp_path / "artifacts")


def test_a_draft_that_a_killed_process_left_is_made_anew(tmp_path):
    (tmp_path / "mlflow.db.new").write_text("half a database")
    (tmp_path / "mlflow.db.new-wal").write_text("half a log")
    prepare_database(tmp_path / "mlflow.db", tmp_path / "artifacts")
    assert not list(tmp_path.glob("*.new*"))
    prepare_database(tmp_path / "mlflow.db", tmp_path / "artifacts")


def test_a_folder_that_cannot_be_made_is_said_so_at_once(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(BackendUnavailableError, match="cannot be created"):
        prepare_database(tmp_path / "file" / "mlflow.db", tmp_path / "artifacts")


def test_statistics_are_kept_for_the_planner(database):
    with closing(sqlite3.connect(database)) as raw, raw:
        raw.execute("INSERT INTO runs (run_uuid, status) VALUES ('a', 'FINISHED')")
    keep_statistics(database)
    with closing(sqlite3.connect(database)) as raw:
        assert raw.execute("SELECT count(*) FROM sqlite_stat1 WHERE tbl = 'runs'").fetchone()[0] > 0


@pytest.mark.process
def test_processes_that_start_together_share_one_database(tmp_path):
    code = (
        "import sys; from pathlib import Path; from mcp_server.tracking import environment; environment.prepare();"
        "from mcp_server.tracking.database import prepare_database;"
        "prepare_database(Path(sys.argv[1]) / 'mlflow.db', Path(sys.argv[1]) / 'artifacts')"
    )
    started = [subprocess.Popen([sys.executable, "-c", code, str(tmp_path)]) for _ in range(2)]
    assert [process.wait(120) for process in started] == [0, 0]


def test_a_store_whose_driver_is_not_installed_names_the_package(tmp_path):
    target = tracking_target(Settings(workspace=tmp_path, tracking_uri="mssql+pymssql://bob:hunter2@db/x"))
    with pytest.raises(MissingDependencyError, match="pymssql") as caught:
        MlflowTracker(target)
    assert "hunter2" not in str(caught.value)
