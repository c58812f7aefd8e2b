"""What the stores say, read in an order in which what runs meanwhile contradicts nothing."""

import sqlite3
from collections import defaultdict
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection, Row, func, select

from mcp_server.errors import WorkspaceError
from mcp_server.health.mirrored import MirroredTrial, mirrored_trials
from mcp_server.store.schema import attempts, events, outbox, studies, trials
from mcp_server.studies.digest import best_of
from mcp_server.studies.placement import runner_lock
from mcp_server.studies.removal import marked
from mcp_server.tracking.inventory import StoredRun
from mcp_server.workspace import Workspace


@dataclass(frozen=True)
class StudyEvidence:
    """One study in all stores; what is None could not be read, or is not there."""

    row: Row[Any]
    at_rest: bool  # no runner had it while the stores were read
    best_value: float | None  # as answers report it
    trials: list[Row[Any]]
    attempts: dict[int, list[Row[Any]]]  # by number of the trial
    ends: list[Row[Any]]  # events
    records: dict[str, Row[Any]]  # outbox, by key
    mirrored: list[MirroredTrial] | None
    runs: list[StoredRun] | None


@dataclass(frozen=True)
class Evidence:
    """All studies, and what is known besides."""

    studies: list[StudyEvidence]
    strays: list[Row[Any]]  # records of studies that are not there
    deleted: frozenset[str]  # ids of studies of which files may be left for a while
    delivered: frozenset[str]  # keys of records that MLflow had before it was asked
    mirror_exists: bool
    unread: list[str]  # stores that could not be compared, and why


@dataclass(frozen=True)
class _Glance:
    free: frozenset[tuple[str, int]]  # studies without a runner, each with its latest event
    delivered: frozenset[str]


def gather(workspace: Workspace) -> Evidence:
    """What the stores of the workspace say."""
    before = _glance(workspace)
    unread: list[str] = []
    mirror = _mirror(workspace, unread)
    runs = _runs(workspace, [study_id for study_id, _ in before.free], unread)
    with workspace.store.read() as connection:
        found = connection.execute(select(studies).order_by(studies.c.created_at)).all()
        grouped = _by_study(connection)
        best = {row.id: best_of(connection, row) for row in found}
        deleted = frozenset(marked(connection))
    resting = {study_id for study_id, _ in before.free & _glance(workspace).free}
    known = {row.id for row in found}
    return Evidence(
        studies=[
            StudyEvidence(
                row=row,
                at_rest=row.id in resting,
                best_value=found_best.value if (found_best := best[row.id]) else None,
                trials=grouped.trials[row.id],
                attempts=_by_number(grouped.attempts[row.id]),
                ends=grouped.ends[row.id],
                records={record.key: record for record in grouped.records[row.id]},
                mirrored=None if mirror is None else mirror.get(row.name),
                runs=runs.get(row.id),
            )
            for row in found
        ],
        strays=[record for study_id, rows in grouped.records.items() if study_id not in known for record in rows],
        deleted=deleted,
        delivered=before.delivered,
        mirror_exists=mirror is not None,
        unread=unread,
    )


@dataclass(frozen=True)
class _Grouped:
    trials: dict[str, list[Row[Any]]]
    attempts: dict[str, list[Row[Any]]]
    ends: dict[str, list[Row[Any]]]
    records: dict[str, list[Row[Any]]]


def _glance(workspace: Workspace) -> _Glance:
    with workspace.store.read() as connection:
        last = func.coalesce(func.max(events.c.id), 0)
        rows = connection.execute(
            select(studies.c.id, last).outerjoin(events, events.c.study_id == studies.c.id).group_by(studies.c.id)
        ).all()
        delivered = connection.scalars(select(outbox.c.key).where(outbox.c.state == "done")).all()
    free = frozenset((study_id, event) for study_id, event in rows if nobody_runs(workspace, study_id))
    return _Glance(free, frozenset(delivered))


def nobody_runs(workspace: Workspace, study_id: str) -> bool:
    """Whether the study had no runner a moment ago."""
    lock = runner_lock(workspace.settings.workspace, study_id)
    return not lock.path.exists() or lock.is_free()


def _by_study(connection: Connection) -> _Grouped:
    ended = events.c.kind == "trial_ended"
    queries = {
        "trials": select(trials).order_by(trials.c.number),
        "attempts": select(attempts).order_by(attempts.c.number, attempts.c.attempt),
        "ends": select(events).where(ended).order_by(events.c.id),
        "records": select(outbox).order_by(outbox.c.id),
    }
    grouped: dict[str, dict[str, list[Row[Any]]]] = {}
    for name, query in queries.items():
        grouped[name] = defaultdict(list)
        for row in connection.execute(query):
            grouped[name][row.study_id].append(row)
    return _Grouped(**grouped)


def _by_number(rows: list[Row[Any]]) -> dict[int, list[Row[Any]]]:
    found: dict[int, list[Row[Any]]] = defaultdict(list)
    for row in rows:
        found[row.number].append(row)
    return found


def _mirror(workspace: Workspace, unread: list[str]) -> dict[str, list[MirroredTrial]] | None:
    path = workspace.settings.workspace / "optuna.db"
    if not path.exists():
        return None
    try:
        return mirrored_trials(path)
    except sqlite3.DatabaseError as exc:
        unread.append(f"optuna.db: {exc}")
        return None


def _runs(workspace: Workspace, study_ids: list[str], unread: list[str]) -> dict[str, list[StoredRun]]:
    try:
        return {study_id: workspace.runs.stored(study_id) for study_id in study_ids}
    except (WorkspaceError, sqlite3.DatabaseError) as exc:
        unread.append(f"MLflow: {exc}")
        return {}
