"""A workspace in which everything is right: a finished study whose trials are in Optuna's file and in MLflow."""

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from mcp_server.access import Principal, Role
from mcp_server.settings import Settings
from mcp_server.tracking.drain import Drain
from mcp_server.tracking.mlflow import MlflowTracker
from mcp_server.tracking.target import tracking_target
from mcp_server.workspace import Workspace
from tests.studies.running import callable_spec, run_inline
from tests.tracking.conftest import migrated

__all__ = ["migrated"]

OBJECTIVES = str(Path(__file__).parents[1] / "studies")


def open_workspace(folder: Path) -> Workspace:
    return Workspace(Settings(workspace=folder, parallel=2), launch=lambda *_: None)


def deliver(workspace: Workspace) -> None:
    """Do the tracker's work here and now."""
    drain = Drain(workspace.store, MlflowTracker(tracking_target(workspace.settings)))
    while drain.run_batch():
        pass


def call_a_tool(workspace: Workspace, outcome: str = "ok") -> None:
    workspace.audit.record(
        principal=Principal("ann", Role.OPERATOR),
        tool="list_automl_studies",
        arguments={},
        outcome=outcome,
        seconds=0.1,
        request_id="1",
    )


@pytest.fixture(scope="session")
def template(tmp_path_factory: pytest.TempPathFactory, migrated: Path) -> Path:
    """Such a workspace, to be copied: 6 trials of which some fail."""
    folder = tmp_path_factory.mktemp("healthy") / "workspace"
    folder.mkdir(mode=0o700)
    shutil.copyfile(migrated, folder / "mlflow.db")
    with open_workspace(folder) as workspace:
        spec = callable_spec(
            objective="study_objectives:raises_on_b", python_path=[OBJECTIVES], n_trials=6, timeout_s=600.0
        )
        workspace.studies.start(spec, "ann")
        run_inline(workspace)
        deliver(workspace)
        states = {trial.state for trial in workspace.studies.read.trials("study")}
        assert states == {"complete", "failed"}
        for _ in range(3):
            call_a_tool(workspace)
    return folder


@pytest.fixture
def healthy(template: Path, tmp_path: Path) -> Iterator[Workspace]:
    """A copy for one test."""
    shutil.copytree(template, tmp_path / "workspace", dirs_exist_ok=True)
    with open_workspace(tmp_path / "workspace") as workspace:
        yield workspace
