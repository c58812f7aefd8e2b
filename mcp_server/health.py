"""What is right and wrong with an installation and a workspace, in sentences."""

import shutil
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, requires, version
from typing import Literal

import psutil
from packaging.requirements import Requirement
from sqlalchemy import func, select

from mcp_server.store.schema import attempts, outbox, studies, trials
from mcp_server.studies.placement import runner_lock
from mcp_server.tracking.outbox import OPEN_STATES
from mcp_server.types import ENDED_STATES
from mcp_server.workspace import Workspace

DISTRIBUTION = "tuning-mcp"
LOW_DISK_BYTES = 500 * 2**20
_NETWORK = frozenset({"nfs", "nfs4", "cifs", "smb3", "smbfs", "sshfs", "fuse.sshfs"})


@dataclass(frozen=True)
class Finding:
    """One thing that was looked at."""

    level: Literal["ok", "warning", "problem"]
    text: str
    hint: str = ""


def examine(workspace: Workspace) -> list[Finding]:
    """Everything that was looked at, in the order in which it would be mended."""
    return [*_packages(), *_folder(workspace), *_databases(workspace), *_work(workspace)]


def _packages() -> Iterator[Finding]:
    wrong = []
    for line in requires(DISTRIBUTION) or []:
        needed = Requirement(line)
        if needed.marker is not None and not needed.marker.evaluate({"extra": ""}):
            continue
        try:
            if version(needed.name) not in needed.specifier:
                wrong.append(f"{needed.name} is {version(needed.name)}, needed is {needed.specifier}")
        except PackageNotFoundError:
            wrong.append(f"{needed.name} is missing")
    if wrong:
        yield Finding(
            "problem", f"Packages do not fit: {'; '.join(wrong)}.", f"Run pip install --upgrade {DISTRIBUTION}."
        )
    else:
        yield Finding("ok", "All required packages are there in versions that fit.")


def _folder(workspace: Workspace) -> Iterator[Finding]:
    folder = workspace.settings.workspace
    folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    disks = sorted(psutil.disk_partitions(all=True), key=lambda disk: len(disk.mountpoint), reverse=True)
    kind = next((d.fstype for d in disks if folder.is_relative_to(d.mountpoint)), "unknown")
    if kind in _NETWORK:
        yield Finding("problem", f"The workspace lies on a network disk ({kind}): locks and SQLite are not safe there.",
                      "Choose a local folder with --workspace.")  # fmt: skip
    free = shutil.disk_usage(folder).free
    level: Literal["ok", "warning"] = "warning" if free < LOW_DISK_BYTES else "ok"
    yield Finding(level, f"The workspace's disk has {free / 2**30:.1f} GiB free.")
    roots = workspace.settings.data_roots
    for root in roots:
        if not root.is_dir():
            yield Finding("problem", f"The data folder {root} does not exist.", "Correct --data-root.")
    if not roots:
        yield Finding("warning", "No data folder is allowed, so only sklearn:<name> can be read.",
                      "Add one with --data-root DIR or TUNING_DATA_ROOTS.")  # fmt: skip


def _databases(workspace: Workspace) -> Iterator[Finding]:
    for name in ("workspace.db", "optuna.db", "mlflow.db"):
        path = workspace.settings.workspace / name
        if not path.exists():
            continue
        try:
            with closing(sqlite3.connect(f"file:{path}?mode=ro", uri=True, timeout=5)) as connection:
                answer = connection.execute("PRAGMA integrity_check(1)").fetchone()[0]
        except sqlite3.DatabaseError as exc:
            answer = str(exc)
        if answer == "ok":
            yield Finding("ok", f"{name} is intact.")
        else:
            yield Finding(
                "problem", f"{name} is damaged: {answer}.", "Move it away; optuna.db and mlflow.db are made again."
            )


def _work(workspace: Workspace) -> Iterator[Finding]:
    if not (workspace.settings.workspace / "workspace.db").exists():
        yield Finding("ok", "No study yet.")
        return
    with workspace.store.read() as connection:
        all_studies = connection.execute(select(studies.c.id, studies.c.name, studies.c.state)).all()
        pending = connection.scalar(select(func.count()).where(outbox.c.state.in_(OPEN_STATES))) or 0
        orphans = connection.scalar(
            select(func.count())
            .select_from(
                attempts.join(
                    trials, (attempts.c.study_id == trials.c.study_id) & (attempts.c.number == trials.c.number)
                )
            )
            .where(attempts.c.state == "running", trials.c.state != "running")
        )
        ended = [row.id for row in all_studies if row.state in ENDED_STATES]
        left = connection.scalar(select(func.count()).where(trials.c.study_id.in_(ended), trials.c.state == "running"))
    waiting = [
        row.name
        for row in all_studies
        if row.state in {"queued", "running"} and runner_lock(workspace.settings.workspace, row.id).is_free()
    ]
    if waiting:
        yield Finding(
            "warning", f"Nobody runs {', '.join(waiting)}.", "Any server goes on with them: tuning-mcp serve."
        )
    if orphans or left:
        yield Finding("problem", f"{(orphans or 0) + (left or 0)} trials are marked as running in studies that ended.",
                      "Resume the study to have them put right.")  # fmt: skip
    else:
        yield Finding("ok", f"{len(all_studies)} studies, no trial without a study that runs it.")
    if pending:
        yield Finding("warning", f"{pending} records wait for MLflow.", "Any server delivers them: tuning-mcp serve.")
    else:
        yield Finding("ok", "Everything has arrived in MLflow.")
