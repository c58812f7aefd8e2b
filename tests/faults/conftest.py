"""Workspaces to break, prepared once and copied, and the promise that nothing of them runs on."""

import shutil
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import psutil
import pytest

from mcp_server.health import check_invariants
from mcp_server.settings import Settings
from mcp_server.studies.placement import runner_lock
from mcp_server.tracking.tracker import tracker_lock
from mcp_server.workspace import Workspace
from tests.conftest import eventually
from tests.health.conftest import deliver
from tests.studies.running import callable_spec
from tests.tracking.conftest import migrated

__all__ = ["migrated"]

HERE = str(Path(__file__).parent)


def faulty_spec(objective: str = "curve", **changed: object):
    """A study of one of `fault_objectives`."""
    fields = {"direction": "maximize", "sampler": "random", "pruner": "none", "n_trials": 1, **changed}
    return callable_spec(objective=f"fault_objectives:{objective}", python_path=[HERE], **fields)


def asleep(folder: Path) -> Workspace:
    """The workspace in `folder`, which starts no process."""
    return Workspace(Settings(workspace=folder, parallel=4), launch=lambda *_: None)


@pytest.fixture(scope="session")
def ready(tmp_path_factory: pytest.TempPathFactory, migrated: Path) -> Path:
    """A workspace with an MLflow database and no study, to be copied."""
    folder = tmp_path_factory.mktemp("ready") / "workspace"
    folder.mkdir(mode=0o700)
    shutil.copyfile(migrated, folder / "mlflow.db")
    with asleep(folder) as workspace:
        assert workspace.studies.read.page().total == 0
    return folder


@pytest.fixture
def live(ready: Path, tmp_path: Path) -> Iterator[Workspace]:
    """A workspace whose studies run in detached processes; all of them are gone afterwards."""
    shutil.copytree(ready, tmp_path / "workspace")
    with Workspace(Settings(workspace=tmp_path / "workspace", parallel=4)) as opened:
        yield opened
    end_all(tmp_path)


def at_work(folder: Path) -> list[psutil.Process]:
    """The processes that work for a workspace below `folder`, with all they started."""
    found = []
    for process in psutil.process_iter():
        with suppress(psutil.Error):
            if str(folder) in " ".join([*process.cmdline(), process.environ().get("TUNING_OWNER", "")]):
                found.append(process)
    return found


def end_all(folder: Path) -> None:
    """Kill whatever works below `folder`, until nothing does."""

    def gone() -> bool:
        alive = [p for p in at_work(folder) if p.status() != psutil.STATUS_ZOMBIE]
        for process in alive:
            with suppress(psutil.NoSuchProcess):
                process.kill()
        return not alive

    eventually(gone)


def settle(workspace: Workspace, name: str = "study") -> None:
    """Let the runner leave and the tracker deliver the rest, here if nobody else does."""
    root = workspace.settings.workspace
    study_id = workspace.studies.runner_log(name).parent.name
    eventually(runner_lock(root, study_id).is_free)
    if tracker_lock(workspace.settings).is_free():
        deliver(workspace)
    eventually(lambda: workspace.studies.read.status(name).tracking.synced)


def check(workspace: Workspace, n_trials: int, name: str = "study", *, failed: int = 0) -> None:
    """Everything that must hold at the end of a study: its total exactly, and every invariant."""
    status = workspace.studies.read.status(name)
    assert (status.state, status.stop_reason) == ("finished", "trials"), status
    assert (status.n_complete, status.n_failed, status.n_running) == (n_trials - failed, failed, 0)
    assert check_invariants(workspace, settled=True) == []
    assert len(workspace.runs.stored(workspace.studies.runner_log(name).parent.name)) == n_trials + 1
