"""Where a study's files and its runner are, and how a runner is started."""

from collections.abc import Callable, Mapping
from pathlib import Path

from mcp_server.processes import OWNER, spawn_detached
from mcp_server.store import KernelLock

Launch = Callable[[Path, str], object]
"""Starts the runner of a study: the folder of its workspace, its id."""

WAITING_NOTE = "waiting.json"
RUNNER_FILES = frozenset({"runner.lock", "runner.log", WAITING_NOTE})
"""What a runner makes in its study's folder before it has looked at the study."""


def study_folder(workspace: Path, study_id: str) -> Path:
    """The folder of a study's lock and logs."""
    return workspace / "studies" / study_id


def runner_lock(workspace: Path, study_id: str) -> KernelLock:
    """The lock that the study's runner holds for life."""
    return KernelLock(study_folder(workspace, study_id) / "runner.lock")


def spawn_runner(workspace: Path, study_id: str, environment: Mapping[str, str] | None = None) -> int:
    """The pid of a new runner, detached; it ends at once when another one holds the study."""
    folder = study_folder(workspace, study_id)
    folder.mkdir(parents=True, exist_ok=True)
    arguments = ["--workspace", str(workspace), "--study", study_id]
    log = folder / "runner.log"
    variables = {**(environment or {}), OWNER: str(folder)}
    return spawn_detached("mcp_server.studies", arguments, log=log, folder=workspace, environment=variables)
