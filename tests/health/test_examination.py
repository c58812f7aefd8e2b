"""What doctor says about an installation, a folder and databases that are not as they should be."""

import shutil
import socket
import sqlite3
import sys
from collections.abc import Iterable
from contextlib import closing
from importlib import metadata
from pathlib import Path

import pytest

from mcp_server.health import folder as module
from mcp_server.health.databases import databases
from mcp_server.health.finding import Finding
from mcp_server.health.folder import folder
from mcp_server.health.installation import installation
from mcp_server.settings import Settings
from mcp_server.workspace import Workspace
from tests.tracking.conftest import migrated

__all__ = ["migrated"]

DRIVER = "NVRM version: NVIDIA UNIX x86_64 Kernel Module  {}.54.03  Tue Apr 16\n"
NOTHING = Path("/nonexistent")


def told(findings: Iterable[Finding], level: str) -> str:
    return "\n".join(f"{f.text} {f.hint}" for f in findings if f.level == level)


@pytest.fixture
def torch(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """A torch on the path that was built for some CUDA; nobody imports it."""
    monkeypatch.syspath_prepend(tmp_path / "site")
    monkeypatch.delitem(sys.modules, "torch", raising=False)

    def build(cuda: str) -> None:
        package = tmp_path / "site" / "torch"
        package.mkdir(parents=True)
        (package / "__init__.py").write_text("raise ImportError('doctor must not import torch')", encoding="utf-8")
        (package / "version.py").write_text(f"__version__ = '2.9.0'\ncuda: str | None = {cuda}\n", encoding="utf-8")

    return build


def driver(tmp_path: Path, version: int) -> Path:
    file = tmp_path / "driver"
    file.write_text(DRIVER.format(version), encoding="utf-8")
    return file


def test_an_installation_as_it_should_be_has_no_problem() -> None:
    findings = list(installation(NOTHING))

    assert told(findings, "problem") == ""
    assert "All required packages are there in versions that fit." in told(findings, "ok")


def test_packages_that_are_missing_or_do_not_fit_are_named_with_what_is_needed(monkeypatch: pytest.MonkeyPatch) -> None:
    needs = ["pydantic<1", "no-such-package>=3", "psutil>=1", 'tzdata>9999; sys_platform == "plan9"']
    monkeypatch.setattr("mcp_server.health.installation.requires", lambda _: needs)

    problem = told(installation(NOTHING), "problem")

    assert f"pydantic is {metadata.version('pydantic')}, needed is <1" in problem
    assert "no-such-package is missing" in problem
    assert "psutil" not in problem
    assert "tzdata" not in problem


def test_extras_are_told_apart_by_whether_they_are_there_and_fit(monkeypatch: pytest.MonkeyPatch) -> None:
    needs = ['no-such-package>=3; extra == "torch"', 'psutil<1; extra == "boost"', 'psutil>=1; extra == "postgres"']
    monkeypatch.setattr("mcp_server.health.installation.requires", lambda _: needs)

    findings = list(installation(NOTHING))

    assert "The extra torch is not installed. pip install 'tuning-mcp[torch]' brings it." in told(findings, "ok")
    assert "The extra postgres is installed." in told(findings, "ok")
    assert "The extra boost does not fit: psutil is" in told(findings, "warning")


def test_a_torch_without_cuda_beside_a_gpu_is_a_warning(torch, tmp_path: Path) -> None:
    torch("None")

    assert "was built without CUDA" in told(installation(driver(tmp_path, 580)), "warning")


@pytest.mark.parametrize(("version", "level"), [(535, "problem"), (580, "ok")])
def test_a_torch_that_is_too_new_for_the_driver_is_a_problem(torch, tmp_path: Path, version: int, level: str) -> None:
    torch("'13.0'")

    assert "torch was built for CUDA 13" in told(installation(driver(tmp_path, version)), level)


def test_without_a_gpu_nothing_is_said_of_torch(torch) -> None:
    torch("'13.0'")

    assert "CUDA" not in str(list(installation(NOTHING)))


def test_a_folder_that_others_can_read_and_data_folders_that_are_not_there_are_named(tmp_path: Path) -> None:
    tmp_path.chmod(0o755)
    findings = list(folder(Settings(workspace=tmp_path, data_roots=(tmp_path / "nowhere",))))

    assert f"chmod 700 {tmp_path}" in told(findings, "warning")
    assert f"The data folder {tmp_path / 'nowhere'} does not exist." in told(findings, "problem")


def test_a_workspace_on_a_network_disk_is_a_problem(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "network_disk", lambda _: "nfs4")

    assert "network disk (nfs4)" in told(folder(Settings(workspace=tmp_path / "workspace")), "problem")


def test_a_disk_that_is_nearly_full_is_a_warning(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    usage = shutil.disk_usage(tmp_path)._replace(free=2**20)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage)

    assert "has 0.0 GiB free" in told(folder(Settings(workspace=tmp_path)), "warning")


def test_a_port_that_is_taken_is_told_and_a_free_one_too(tmp_path: Path) -> None:
    with socket.socket() as server:
        server.bind(("127.0.0.1", 0))
        port = server.getsockname()[1]
        settings = Settings(workspace=tmp_path, transport="http", port=port)
        assert f"Port {port} is free." in told(folder(settings), "ok")
        server.listen()
        assert f"Somebody listens on 127.0.0.1:{port}" in told(folder(settings), "warning")


@pytest.mark.parametrize(
    ("revision", "problem"),
    [("0123456789ab", "newer mlflow"), ("451aebb31d03", "older mlflow"), (None, "not an MLflow database")],
)
def test_an_mlflow_database_of_another_version_is_a_problem_and_is_not_migrated(
    tmp_path: Path, migrated: Path, revision: str | None, problem: str
) -> None:
    path = tmp_path / "mlflow.db"
    shutil.copyfile(migrated, path)
    with closing(sqlite3.connect(path)) as raw, raw:
        if revision is None:
            raw.execute("DROP TABLE alembic_version")
        else:
            raw.execute("UPDATE alembic_version SET version_num = ?", (revision,))
    before = path.read_bytes()

    with Workspace(Settings(workspace=tmp_path)) as workspace:
        found = list(databases(workspace))

    assert problem in told(found, "problem")
    assert path.read_bytes() == before


def test_an_mlflow_database_of_the_installed_version_is_fine(tmp_path: Path, migrated: Path) -> None:
    shutil.copyfile(migrated, tmp_path / "mlflow.db")

    with Workspace(Settings(workspace=tmp_path)) as workspace:
        assert "has the schema of the installed mlflow" in told(databases(workspace), "ok")
