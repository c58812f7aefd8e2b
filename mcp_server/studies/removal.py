"""Deleting studies: rows first, in one transaction that also says what else has to go; then files and Optuna's trials.

The transaction leaves a mark in the database. Whoever looks after the workspace starts a runner for a marked study;
finding no study, it removes what is left of it and then the mark. Being killed anywhere, it is started again.
"""

import time

import structlog
from sqlalchemy import Connection, Row, delete, func, insert, select

from mcp_server.access import Permission, Principal
from mcp_server.errors import ConflictError, InvalidRequestError
from mcp_server.execution.run_folder import remove_tree
from mcp_server.settings import Settings
from mcp_server.store import Store
from mcp_server.store.schema import studies, trials, workspace_info
from mcp_server.studies.control import require_owner
from mcp_server.studies.mirror import forget_study
from mcp_server.studies.placement import RUNNER_FILES, Launch, runner_lock, study_folder
from mcp_server.studies.queries import find
from mcp_server.studies.summary import DeletedStudy
from mcp_server.tracking import outbox
from mcp_server.types import shown

MARK = "deleted:"
RUNNER_LEAVES_S = 5.0

log = structlog.get_logger()


class Remover:
    """Deletes studies of one workspace."""

    def __init__(self, store: Store, settings: Settings, *, launch: Launch) -> None:
        self._store = store
        self._settings = settings
        self._launch = launch

    def delete(self, name: str, by: Principal, *, confirm: str) -> DeletedStudy:
        """What was deleted: the study, its trials, events and orders; files, Optuna's and MLflow's runs follow.

        Prepared data stay, because other studies share them.

        Raises:
            StudyNotFoundError: If there is no such study.
            PermissionDeniedError: If the caller may not delete.
            InvalidRequestError: If `confirm` is not its exact name.
            ConflictError: If it runs, or waits for its runner.
        """
        by.require(Permission.DELETE, "Deleting a study")
        with self._store.read() as connection:
            row = find(connection, name)
        require_owner(row, by)
        if confirm != row.name:
            raise InvalidRequestError(
                f"confirm is {shown(confirm)!r}, which is not the name of the study.",
                hint=f"Deleting cannot be undone. Pass confirm={row.name!r} if it is meant.",
            )
        _refuse_active(row)
        lock = runner_lock(self._settings.workspace, row.id)
        if not lock.acquire(RUNNER_LEAVES_S):
            raise ConflictError(f"A runner is still at work on study {row.name!r}.", hint="Ask again in a moment.")
        try:
            n_trials = self._delete_rows(row.id, row.name)
        finally:
            lock.release()
        self._launch(self._settings.workspace, row.id)
        log.info("study deleted", study=row.id, name=row.name, by=by.name)
        return DeletedStudy(
            study_name=row.name,
            n_trials=n_trials,
            message=f"Study {row.name!r} is deleted with {n_trials} trials, and its name is free again. "
            "Its files go now, and its MLflow runs are marked as deleted.",
        )

    def _delete_rows(self, study_id: str, name: str) -> int:
        with self._store.write(durable=True) as connection:
            row = find(connection, name)
            if row.id != study_id:
                raise ConflictError(f"Study {name!r} was started anew a moment ago.", hint="Read its status first.")
            _refuse_active(row)
            mine = trials.c.study_id == study_id
            n_trials = connection.scalar(select(func.count()).select_from(trials).where(mine)) or 0
            outbox.enqueue_deletion(connection, study_id, name, time.time())
            connection.execute(insert(workspace_info).values(key=MARK + study_id, value=name))
            connection.execute(delete(studies).where(studies.c.id == study_id))
        return n_trials


def marked(connection: Connection) -> list[str]:
    """The ids of deleted studies of which something may be left."""
    keys = connection.scalars(select(workspace_info.c.key).where(workspace_info.c.key.startswith(MARK)))
    return [key.removeprefix(MARK) for key in keys]


def forget(store: Store, settings: Settings, study_id: str) -> bool:
    """Whether there is no study with this id; what a deleted one left behind is removed. May be cut off and repeated.

    The caller holds the study's lock.
    """
    here = workspace_info.c.key == MARK + study_id
    with store.read() as connection:
        if connection.scalar(select(studies.c.id).where(studies.c.id == study_id)) is not None:
            return False
        name = connection.scalar(select(workspace_info.c.value).where(here))
    folder = study_folder(settings.workspace, study_id)
    if name is None and {file.name for file in folder.iterdir()} - RUNNER_FILES:
        log.warning("there is no such study, but files of one", folder=str(folder))
        return True
    if name is not None:
        forget_study(settings.workspace / "optuna.db", study_id, name)
    remove_tree(folder)
    if folder.exists():  # a system that keeps open files
        log.warning("files of a deleted study are left", folder=str(folder))
    with store.write() as connection:
        connection.execute(delete(workspace_info).where(here))
    return True


def _refuse_active(row: Row[object]) -> None:
    if row.state in {"queued", "running"}:
        raise ConflictError(
            f"Study {row.name!r} is {row.state}.", hint='Stop it first: control_automl_study(action="stop").'
        )
