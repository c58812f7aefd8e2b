"""The study as Optuna's own tools see it: `optuna.db`, which follows our rows and can be made again from them."""

import sqlite3
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import datetime
from functools import partial
from pathlib import Path
from threading import BoundedSemaphore, Event
from typing import TYPE_CHECKING

import structlog

from mcp_server.store import KernelLock
from mcp_server.studies.spaces import Spaces
from mcp_server.studies.spec import StudyDefinition
from mcp_server.types import Params, TrialState

if TYPE_CHECKING:
    from optuna.distributions import BaseDistribution
    from optuna.storages import RDBStorage
    from optuna.trial import FrozenTrial
    from optuna.trial import TrialState as OptunaState


BACKLOG = 10_000
RETRY_S = 1.0
LAST_TRIES = 5
OWNER_ATTRIBUTE = "tuning.study_id"

log = structlog.get_logger()


@dataclass(frozen=True)
class KnownTrial:
    """A row of ours that Optuna has to know."""

    number: int
    state: TrialState
    params: Params
    value: float | None
    reports: dict[int, float] = field(default_factory=dict)
    source: str = "sampler"
    space_version: int = 1


class OptunaMirror:
    """Optuna's study called `name` in the SQLite file `path`, created when there is none for `study_id`.

    Two short transactions per trial: its row is created complete with its parameters, and later gets its result. All
    of it happens in a thread of its own, in order, because no trial has to wait for it. When the file cannot follow
    (it is damaged, or somebody deleted the study in it), that is logged and the study goes on without: nothing is in
    the file that is not in our rows, and the next runner brings it up to them. Only a full disk is waited for.

    A study whose choices were changed is written anew, because Optuna wants them equal in all trials of a study.
    """

    def __init__(self, path: Path, name: str, study_id: str, definition: StudyDefinition) -> None:
        self._path = path
        self._name = name
        self._owner = study_id
        self._definition = definition
        self._spaces = Spaces((definition.space,))
        self._ids: dict[int, int] = {}
        self._lost = False
        self._closing = Event()
        self._writer = ThreadPoolExecutor(1, thread_name_prefix="mirror")
        self._room = BoundedSemaphore(BACKLOG)
        self._later(self._open)

    def catch_up(self, rows: Sequence[KnownTrial], spaces: Spaces) -> None:
        """Make the file say what our rows, ordered by number, say. May be cut off and repeated."""
        self._later(partial(self._catch_up, rows, spaces))

    def opened(self, trial: KnownTrial) -> None:
        """Add a trial that is on record; adding it again changes nothing."""
        self._later(partial(self._create, trial))

    def reported(self, number: int, step: int, value: float) -> None:
        """Add an intermediate value."""
        self._later(lambda: self._storage.set_trial_intermediate_value(self._ids[number], step, value))

    def closed(self, number: int, state: TrialState, value: float | None) -> None:
        """Give a trial its result."""
        self._later(partial(self._finish, number, state, value))

    def settle(self, timeout_s: float) -> None:
        """Return when everything so far is written, or after `timeout_s`."""
        with suppress(TimeoutError):
            self._writer.submit(lambda: None).result(timeout_s)

    def close(self) -> None:
        """Return when everything is written and the file is closed."""
        self._later(self._disconnect)
        self._closing.set()
        self._writer.shutdown()

    def _later(self, write: Callable[[], None]) -> None:
        self._room.acquire()
        self._writer.submit(self._follow, write)

    def _follow(self, write: Callable[[], None]) -> None:
        from optuna.exceptions import OptunaError
        from sqlalchemy.exc import SQLAlchemyError

        try:
            if not self._lost:
                self._insist(write)
        except (OptunaError, SQLAlchemyError, KeyError, ValueError, OSError) as exc:
            self._lost = True
            log.warning(
                "optuna.db cannot follow this study", file=str(self._path), error=f"{type(exc).__name__}: {exc}"
            )
        finally:
            self._room.release()

    def _insist(self, write: Callable[[], None]) -> None:
        """Repeat what a full disk refuses until it takes it, or until the study has ended for a while."""
        from optuna.exceptions import OptunaError
        from sqlalchemy.exc import SQLAlchemyError

        tries = 0
        while True:
            try:
                write()
            except (OptunaError, SQLAlchemyError) as exc:
                tries += self._closing.is_set()
                if not _disk_full(exc) or tries > LAST_TRIES:
                    raise
                log.warning("optuna.db waits for room on the disk", file=str(self._path))
                self._closing.wait(RETRY_S) if tries == 0 else time.sleep(RETRY_S)
            else:
                return

    def _open(self) -> None:
        from optuna.exceptions import DuplicatedStudyError

        self._storage = _storage(self._path)
        try:
            self._study_id = self._create_study()
        except DuplicatedStudyError:
            self._study_id = self._storage.get_study_id_from_name(self._name)
            owner = self._storage.get_study_user_attrs(self._study_id).get(OWNER_ATTRIBUTE)
            if owner is None:  # written by an earlier version, which did not say whose it is
                self._storage.set_study_user_attr(self._study_id, OWNER_ATTRIBUTE, self._owner)
            elif owner != self._owner:  # left by a study of this name that was deleted
                self._renew()

    def _create_study(self) -> int:
        from optuna.study import StudyDirection

        direction = StudyDirection.MAXIMIZE if self._definition.direction == "maximize" else StudyDirection.MINIMIZE
        study_id = self._storage.create_new_study([direction], self._name)
        self._storage.set_study_user_attr(study_id, OWNER_ATTRIBUTE, self._owner)
        return study_id

    def _renew(self) -> None:
        self._storage.delete_study(self._study_id)
        self._study_id = self._create_study()
        self._ids.clear()

    def _disconnect(self) -> None:
        _disconnect(self._storage)

    def _catch_up(self, rows: Sequence[KnownTrial], spaces: Spaces) -> None:
        self._spaces = spaces
        found = self._storage.get_all_trials(self._study_id, deepcopy=False)
        # A file that is ahead of our rows holds another study: one of this name that was deleted.
        if len(found) > len(rows) or any(self._clashes(trial) for trial in found):
            self._renew()
            found = []
        for row in rows:
            if row.number >= len(found):
                self._create(row)
                continue
            known = found[row.number]
            self._ids[row.number] = known._trial_id  # noqa: SLF001 - the storage's methods want it
            if row.state != "running" and not known.state.is_finished():
                for step in row.reports.keys() - known.intermediate_values.keys():
                    self._storage.set_trial_intermediate_value(self._ids[row.number], step, row.reports[step])
                self._finish(row.number, row.state, row.value)

    def _clashes(self, trial: "FrozenTrial") -> bool:
        """Whether no trial with the present choices can lie beside this one."""
        from optuna.distributions import CategoricalDistribution

        return any(
            isinstance(entry, CategoricalDistribution) and tuple(entry.choices) != self._spaces.choices(name)
            for name, entry in trial.distributions.items()
        )

    def _create(self, trial: KnownTrial) -> None:
        if trial.number not in self._ids:
            distributions = self._spaces.distributions(trial.params, trial.space_version)
            template = frozen_trial(distributions, trial)
            self._ids[trial.number] = self._storage.create_new_trial(self._study_id, template)

    def _finish(self, number: int, state: TrialState, value: float | None) -> None:
        values = [value] if state == "complete" and value is not None else None
        self._storage.set_trial_state_values(self._ids.pop(number), optuna_state(state), values)


def frozen_trial(
    distributions: "dict[str, BaseDistribution]", trial: KnownTrial, *, notes: Mapping[str, float] | None = None
) -> "FrozenTrial":
    """The trial as Optuna stores it, with a pruner's `notes`; parameters without a distribution are left out."""
    from optuna.trial import create_trial

    frozen = create_trial(
        state=optuna_state(trial.state),
        value=trial.value if trial.state == "complete" else None,
        params={name: trial.params[name] for name in distributions},
        distributions=distributions,
        intermediate_values=trial.reports,
        system_attrs=dict(notes or {}),
    )
    frozen.datetime_start = frozen.datetime_start or datetime.now()  # noqa: DTZ005 - Optuna's times are local
    return frozen


def forget_study(path: Path, study_id: str, name: str) -> None:
    """Remove our study with this id from the file, if it is there. May be cut off and repeated.

    A file that cannot be used is left as it is: a new study of the same name does not take what is not its own.
    """
    from optuna.exceptions import OptunaError
    from sqlalchemy.exc import SQLAlchemyError

    if not path.exists():
        return
    try:
        storage = _storage(path)
        for study in storage.get_all_studies():
            owner = study.user_attrs.get(OWNER_ATTRIBUTE)  # which earlier versions did not write
            if owner == study_id or (owner is None and study.study_name == name):
                storage.delete_study(study._study_id)  # noqa: SLF001 - the storage's methods want it
        _disconnect(storage)
    except (OptunaError, SQLAlchemyError, OSError) as exc:
        log.warning("optuna.db keeps a deleted study", file=str(path), error=f"{type(exc).__name__}: {exc}")


def optuna_state(state: TrialState) -> "OptunaState":
    """Optuna's word for a trial state of ours."""
    from optuna.trial import TrialState as Optuna

    return {
        "running": Optuna.RUNNING,
        "complete": Optuna.COMPLETE,
        "pruned": Optuna.PRUNED,
        "failed": Optuna.FAIL,
    }[state]


def _storage(path: Path) -> "RDBStorage":
    """Optuna's SQLite storage with a write-ahead log: 16 times faster per trial than its default journal."""
    from optuna.storages import RDBStorage
    from sqlalchemy import event
    from sqlalchemy.pool import Pool

    def prepare(connection: object, _record: object) -> None:
        if isinstance(connection, sqlite3.Connection):  # another thread may be connecting to a server
            connection.execute("PRAGMA journal_mode=WAL")
            connection.execute("PRAGMA synchronous=NORMAL")

    # The storage creates its tables in its constructor, so the hook has to be there before the engine is.
    event.listen(Pool, "connect", prepare)
    try:
        # Two runners that make the tables at the same time fail over each other.
        with KernelLock(path.with_suffix(".lock")):
            return RDBStorage(f"sqlite:///{path}", engine_kwargs={"connect_args": {"timeout": 60}})
    finally:
        event.remove(Pool, "connect", prepare)


def _disk_full(exc: BaseException | None) -> bool:
    """Whether SQLite says so: Optuna and SQLAlchemy wrap each other's errors."""
    while exc is not None:
        if getattr(exc, "sqlite_errorcode", None) == sqlite3.SQLITE_FULL:
            return True
        exc = exc.__cause__ or exc.__context__
    return False


def _disconnect(storage: "RDBStorage") -> None:
    # A connection that is closed later, by the garbage collector, would write to a file that others may have moved.
    storage.remove_session()
    storage.engine.dispose()
