"""What can be put right in a workspace. Finished results are never touched, and doing it twice changes nothing."""

import shutil
import time
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from pydantic import ValidationError
from sqlalchemy import Connection, Select, select

from mcp_server.access import Principal, Role
from mcp_server.errors import ConflictError
from mcp_server.execution import Ended
from mcp_server.health.databases import damage
from mcp_server.health.evidence import nobody_runs
from mcp_server.health.owing import deliver_again, owe_again
from mcp_server.health.violation import Remedy, Violation
from mcp_server.notifications import queue
from mcp_server.notifications.notifier import ensure_notifier
from mcp_server.processes import kill_tree, owned_processes
from mcp_server.store.schema import attempts, studies, trials
from mcp_server.studies import events
from mcp_server.studies.ledger import Ledger
from mcp_server.studies.mirror import OptunaMirror, forget_study
from mcp_server.studies.placement import runner_lock, study_folder
from mcp_server.studies.states import end_attempt
from mcp_server.tracking.tracker import ensure_tracker
from mcp_server.types import ENDED_STATES, AttemptState
from mcp_server.workspace import Workspace

ACTOR = "doctor"
KEPT_BYTES = 2**20
NOBODY_RAN_IT = "it was marked as running, and nobody ran it"

_FINAL: dict[str, AttemptState] = {"complete": "completed", "pruned": "pruned"}


@dataclass(frozen=True)
class Repair:
    """One thing that can be put right: what will be done, and how."""

    text: str
    apply: Callable[[], None]


def repairs(workspace: Workspace, violations: Iterable[Violation]) -> list[Repair]:
    """What can be done about these violations, and about studies that nobody runs."""
    broken: dict[Remedy, dict[str | None, list[Violation]]] = defaultdict(lambda: defaultdict(list))
    for violation in violations:
        if violation.remedy is not None:
            broken[violation.remedy][violation.study_id].append(violation)
    mender = _Mender(workspace)
    found = [*mender.processes(broken["kill"]), *mender.attempts(broken["close"])]
    found += [*mender.records("owe", broken["owe"]), *mender.records("deliver", broken["deliver"])]
    found += [*mender.mirror(broken["mirror"]), *mender.files(broken)]
    if workspace.store.present:
        found += mender.work()
    return found


_Broken = dict[str | None, list[Violation]]


class _Mender:
    def __init__(self, workspace: Workspace) -> None:
        self._workspace = workspace
        self._settings = workspace.settings
        self._folder = workspace.settings.workspace

    def work(self) -> Iterator[Repair]:
        if names := self._workspace.studies.unattended():
            yield Repair(f"Start a runner for {', '.join(names)}.", self._revive)
        with self._workspace.store.read() as connection:
            if number := queue.given_up(connection):
                yield Repair(f"Try {number} notifications again that were given up.", self._notify)

    def _notify(self) -> None:
        with self._workspace.store.write() as connection:
            queue.try_again(connection)
        ensure_notifier(self._workspace.store, self._settings)
        self._audit("tried notifications again")

    def _revive(self) -> None:
        for name in self._workspace.studies.revive():
            with self._workspace.store.write() as connection:
                study_id = connection.scalar(select(studies.c.id).where(studies.c.name == name))
                if study_id is not None:
                    _note(connection, study_id, "revived")

    def processes(self, broken: _Broken) -> list[Repair]:
        return [
            Repair(f"Kill process {found.subject}, which outlived its runner.", partial(self._kill, int(found.subject)))
            for violations in broken.values()
            for found in violations
            if found.subject is not None
        ]

    def _kill(self, pid: int) -> None:
        for owned in owned_processes(study_folder(self._folder, "")):
            if owned.process.pid == pid and nobody_runs(self._workspace, owned.owner.name):
                kill_tree(pid)
                self._audit(f"killed process {pid} of {owned.owner.name}")

    def attempts(self, broken: _Broken) -> list[Repair]:
        return [
            Repair(f"End what is marked as running in study {violations[0].study!r}.", partial(self._close, study_id))
            for study_id, violations in broken.items()
            if study_id is not None
        ]

    def _close(self, study_id: str) -> None:
        ledger = self._ledger(study_id)
        with _without_runner(self._folder, study_id):
            with self._workspace.store.write(durable=True) as connection:
                for row in connection.execute(_running_of_ended(study_id)).all():
                    to = _FINAL.get(row.trial_state, row.cause or "failed")
                    end_attempt(connection, study_id, row.number, row.attempt, to, ended_at=row.trial_ended_at)
                ledger.trials.lose_running(connection, time.time())
                _note(connection, study_id, "closed")
                state = connection.scalar(select(studies.c.state).where(studies.c.id == study_id))
            for attempt in ledger.trials.unfinished() if state in ENDED_STATES else ():
                ledger.trials.close(attempt, Ended("", "cancelled", 0.0, error=NOBODY_RAN_IT), ledger.elapsed_s())
        ensure_tracker(self._workspace.store, self._settings)

    def records(self, remedy: Remedy, broken: _Broken) -> list[Repair]:
        again = "Write again and deliver" if remedy == "owe" else "Deliver again"
        found = []
        for study_id, violations in broken.items():
            keys = sorted({violation.subject for violation in violations if violation.subject is not None})
            if study_id is not None and keys:
                text = f"{again} {len(keys)} records of study {violations[0].study!r} to MLflow."
                found.append(Repair(text, partial(self._owe, study_id, keys, write=remedy == "owe")))
        return found

    def _owe(self, study_id: str, keys: list[str], *, write: bool) -> None:
        ledger = self._ledger(study_id)
        with self._workspace.store.write(durable=True) as connection:
            if write:
                owe_again(connection, ledger, keys)
            else:
                deliver_again(connection, study_id, keys)
            _note(connection, study_id, "owed again" if write else "delivered again", n=len(keys))
        ensure_tracker(self._workspace.store, self._settings)

    def mirror(self, broken: _Broken) -> list[Repair]:
        if None in broken:
            return [Repair("Put the damaged optuna.db aside, and write it anew.", self._renew_file)]
        return [
            Repair(f"Write study {violations[0].study!r} in optuna.db anew.", partial(self._renew, study_id))
            for study_id, violations in broken.items()
            if study_id is not None
        ]

    def _renew_file(self) -> None:
        with self._workspace.store.read() as connection:
            ids = list(connection.scalars(select(studies.c.id)))
        if not all(nobody_runs(self._workspace, study_id) for study_id in ids):
            raise ConflictError("optuna.db is in use by a study that runs.", hint="Pause or stop it, and try again.")
        if damage(self._folder / "optuna.db") is None:
            return
        stamp = time.strftime("%Y%m%d-%H%M%S")
        for path in sorted(self._folder.glob("optuna.db*")):
            path.rename(path.with_name(f"damaged-{stamp}-{path.name}"))
        for study_id in ids:
            self._renew(study_id)
        self._audit("wrote optuna.db anew")

    def _renew(self, study_id: str) -> None:
        ledger, path = self._ledger(study_id), self._folder / "optuna.db"
        with _without_runner(self._folder, study_id):
            if path.exists():
                forget_study(path, study_id, ledger.name)
            if known := ledger.trials.known():
                mirror = OptunaMirror(path, ledger.name, study_id, ledger.definition)
                mirror.catch_up(known, ledger.trials.spaces())
                mirror.close()
            with self._workspace.store.write() as connection:
                _note(connection, study_id, "written to optuna.db anew")

    def files(self, broken: dict[Remedy, _Broken]) -> list[Repair]:
        found = [v.subject for v in broken["remove"].get(None, []) if v.subject is not None]
        long = [v.subject for v in broken["trim"].get(None, []) if v.subject is not None]
        return [
            *(Repair(f"Remove {path}.", partial(self._remove, Path(path))) for path in found),
            *(Repair(f"Cut {path} to its last MiB.", partial(self._trim, Path(path))) for path in long),
        ]

    def _remove(self, path: Path) -> None:
        if path.is_dir():
            shutil.rmtree(path)
        else:
            path.unlink(missing_ok=True)
        self._audit(f"removed {path}")

    def _trim(self, path: Path) -> None:
        with path.open("r+b") as file:  # whoever writes it appends, and goes on at the new end
            file.seek(-KEPT_BYTES, 2)
            kept = file.read()
            file.seek(0)
            file.write(b"(cut by tuning-mcp doctor)\n" + kept)
            file.truncate()
        self._audit(f"cut {path}")

    def _ledger(self, study_id: str) -> Ledger:
        try:
            return Ledger(self._workspace.store, self._settings, study_id)
        except ValidationError as exc:
            raise ConflictError(
                "This version cannot read the study.", hint="Use the version that wrote it, or a newer one."
            ) from exc

    def _audit(self, text: str) -> None:
        self._workspace.audit.record(
            principal=Principal(ACTOR, Role.ADMIN),
            tool=ACTOR,
            arguments={"repair": text},
            outcome="ok",
            seconds=0.0,
            request_id=None,
        )


def _note(connection: Connection, study_id: str, what: str, **more: int) -> None:
    events.record(connection, study_id, "repaired", ACTOR, detail={"what": what, **more})


def _running_of_ended(study_id: str) -> Select[Any]:
    """Attempts that are marked as running although their trial has ended."""
    same = (attempts.c.study_id == trials.c.study_id) & (attempts.c.number == trials.c.number)
    ended = (trials.c.state.label("trial_state"), trials.c.ended_at.label("trial_ended_at"), trials.c.cause)
    return (
        select(attempts.c.number, attempts.c.attempt, *ended)
        .join(trials, same)
        .where(attempts.c.study_id == study_id, attempts.c.state == "running", trials.c.state != "running")
    )


@contextmanager
def _without_runner(folder: Path, study_id: str) -> Iterator[None]:
    """Keep runners away from a study.

    Raises:
        ConflictError: If one has it.
    """
    lock = runner_lock(folder, study_id)
    if not lock.acquire(1.0):
        raise ConflictError("A runner has the study by now, and puts it right itself.", hint="Look again.")
    try:
        yield
    finally:
        lock.release()
