"""Deleting a study: what goes, what stays, and who may (BAD_INPUTS row 130)."""

import sqlite3
from contextlib import closing

import optuna
import pytest
from sqlalchemy import Table, func, select

from mcp_server.access import Principal, Role
from mcp_server.errors import ConflictError, InvalidRequestError, PermissionDeniedError, StudyNotFoundError
from mcp_server.store.schema import attempts, commands, events, reports, studies, trials
from mcp_server.studies.placement import study_folder
from mcp_server.studies.removal import forget, marked
from mcp_server.tracking.drain import Drain
from mcp_server.tracking.mlflow import MlflowTracker
from mcp_server.tracking.target import tracking_target
from mcp_server.workspace import Workspace
from tests.studies.running import callable_spec, run_inline
from tests.studies.test_runner import study_id

ADMIN = Principal("root", Role.ADMIN)
OF_STUDIES: tuple[Table, ...] = (studies, trials, attempts, reports, commands, events)


def deliver(workspace: Workspace) -> None:
    drain = Drain(workspace.store, MlflowTracker(tracking_target(workspace.settings)))
    while drain.run_batch():
        pass


def mlflow_runs(workspace: Workspace) -> list[tuple[str, int]]:
    with closing(sqlite3.connect(workspace.settings.workspace / "mlflow.db")) as raw:
        return raw.execute("SELECT lifecycle_stage, count(*) FROM runs GROUP BY 1 ORDER BY 1").fetchall()


def in_optuna(workspace: Workspace) -> dict[str, int]:
    found = optuna.get_all_study_summaries(f"sqlite:///{workspace.settings.workspace / 'optuna.db'}")
    return {study.study_name: study.n_trials for study in found}


def count(workspace: Workspace) -> list[int]:
    with workspace.store.read() as connection:
        return [connection.scalar(select(func.count()).select_from(table)) or 0 for table in OF_STUDIES]


def start(workspace: Workspace, n_trials: int, name: str = "study") -> None:
    workspace.studies.start(callable_spec(name, n_trials=n_trials), "tester")


def test_a_deletion_that_is_not_meant_or_not_allowed_changes_nothing(workspace: Workspace) -> None:
    start(workspace, 2)
    with pytest.raises(ConflictError, match=r"Study 'study' is queued\. Stop it first"):
        workspace.studies.delete("study", ADMIN, confirm="study")
    run_inline(workspace)
    before = count(workspace)

    with pytest.raises(PermissionDeniedError, match="needs the permission 'delete'"):
        workspace.studies.delete("study", "tester", confirm="study")
    with pytest.raises(InvalidRequestError, match=r"not the name of the study\. .*confirm='study'"):
        workspace.studies.delete("study", ADMIN, confirm="Study")
    with pytest.raises(StudyNotFoundError):
        workspace.studies.delete("nobody", ADMIN, confirm="nobody")

    assert count(workspace) == before


def test_all_of_a_deleted_study_goes_once_and_its_name_can_be_used_again(workspace: Workspace) -> None:
    start(workspace, 3)
    run_inline(workspace)
    deliver(workspace)
    gone = study_id(workspace)

    assert workspace.studies.delete("study", ADMIN, confirm="study").n_trials == 3
    assert count(workspace) == [0] * len(OF_STUDIES)
    start(workspace, 2)  # before anybody has removed the old trials from Optuna's file
    run_inline(workspace)
    for _ in range(2):  # being started again changes nothing
        study_folder(workspace.settings.workspace, gone).mkdir(parents=True, exist_ok=True)
        assert forget(workspace.store, workspace.settings, gone)
        deliver(workspace)

    assert not study_folder(workspace.settings.workspace, gone).exists()
    assert in_optuna(workspace) == {"study": 2}
    assert mlflow_runs(workspace) == [("active", 3), ("deleted", 4)]
    with workspace.store.read() as connection:
        assert marked(connection) == []


def test_a_study_that_exists_is_not_forgotten(workspace: Workspace) -> None:
    start(workspace, 2)
    run_inline(workspace)

    assert not forget(workspace.store, workspace.settings, study_id(workspace))
    assert count(workspace)[1] == 2
