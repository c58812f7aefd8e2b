"""Plan, start, control and read studies: what tools, the command line and Python callers share."""

import time
import unicodedata
import uuid
from collections.abc import Callable
from pathlib import Path
from typing import Any, cast

import structlog
from sqlalchemy import Connection, Row, exists, insert, or_, select

from mcp_server.access import Principal, Role
from mcp_server.data.spec import DataSpec, PreparedData
from mcp_server.errors import ConflictError, InvalidRequestError, StudyExistsError
from mcp_server.settings import Settings
from mcp_server.store import Store
from mcp_server.store.schema import commands, studies
from mcp_server.studies import events
from mcp_server.studies.admission import Admission
from mcp_server.studies.analyst import Analyst
from mcp_server.studies.approvals import Approver
from mcp_server.studies.control import Controller, awaits_runner, changed_limits, require_owner
from mcp_server.studies.decision import Decision
from mcp_server.studies.definition import changes, define, define_callable
from mcp_server.studies.machine import Machine
from mcp_server.studies.orders import Action, Order
from mcp_server.studies.placement import Launch, runner_lock, study_folder
from mcp_server.studies.planning import Planner
from mcp_server.studies.prices import Prices
from mcp_server.studies.queries import find
from mcp_server.studies.reading import StudyReader
from mcp_server.studies.removal import Remover, marked
from mcp_server.studies.spec import WAIT_LIMIT_S, CallableStudySpec, PlanSpec, StudyDefinition, StudySpec
from mcp_server.studies.steering import require_priority
from mcp_server.studies.summary import DeletedStudy, PlanSummary, StudyStatus
from mcp_server.types import StudyState, shown

Progress = Callable[[float, float | None, str], None]
Caller = str | Principal
"""Who asks: a principal with a role, or the name of a library caller, who may do what an operator may."""

POLL_S = 0.2
PROGRESS_EVERY_S = 5.0

log = structlog.get_logger()


def _silent(done: float, total: float | None, message: str) -> None:
    """Progress that nobody asked for."""


class Studies:
    """The studies of one workspace. Safe to share between threads."""

    def __init__(self, store: Store, settings: Settings, analyst: Analyst, backend: str, *, launch: Launch) -> None:
        self._store = store
        self._launch = launch
        self._settings = settings
        self._analyst = analyst
        self._planner = Planner(store, settings, analyst)
        self._admission = Admission(store, settings, self._planner)
        self._approver = Approver(store, settings, launch=launch)
        self._controller = Controller(store, settings, launch=launch)
        self._remover = Remover(store, settings, launch=launch)
        self.read = StudyReader(store, backend)

    def plan(self, spec: PlanSpec, owner: str) -> PlanSummary:
        """What a study of this kind would do and take; nothing runs.

        Raises:
            DataError: If the data cannot be used.
            InvalidRequestError: If the estimator, the metric or the space does not fit.
        """
        return self._planner.plan(spec, owner)

    def start(
        self,
        spec: StudySpec,
        by: Caller,
        *,
        plan_id: str | None = None,
        idempotency_key: str | None = None,
        force: bool = False,
    ) -> StudyStatus:
        """The study's status after it was created, or resumed up to `spec.n_trials` trials in total.

        Nothing is created unless everything is valid. The same `idempotency_key` gives the same study.

        Raises:
            StudyExistsError: If a study of this name exists and the request does not continue it.
            PermissionDeniedError: If it is somebody else's and the caller is no admin.
            DataError: If the data cannot be used.
            InvalidRequestError: If the request contradicts itself or the data.
        """
        if plan_id is not None:
            spec = self._planner.apply(plan_id, spec)
        Machine.of(self._settings).check(spec.parallel, gpus=spec.gpus, force=force)
        with self._store.read() as connection:
            repeated = self._same_request(connection, idempotency_key)
            existing = self._existing(connection, spec.study_name)
        require_priority(spec.priority, _principal(by))
        if repeated is not None:
            return self.read.status(repeated)
        if existing is not None:
            return self._resume_to(existing, spec, _principal(by))
        return self._create(spec, _principal(by).name, idempotency_key)

    def _same_request(self, connection: Connection, key: str | None) -> str | None:
        if key is None:
            return None
        return cast("str | None", connection.scalar(select(studies.c.name).where(studies.c.idempotency_key == key)))

    def _existing(self, connection: Connection, name: str) -> Row[Any] | None:
        row = connection.execute(select(studies).where(studies.c.name_key == name_key(name))).one_or_none()
        if row is not None and row.name != name:
            raise StudyExistsError(
                f"{shown(name)!r} differs from the study {row.name!r} only by case.", hint="Choose another name."
            )
        return row

    def _create(self, spec: StudySpec, owner: str, idempotency_key: str | None) -> StudyStatus:
        definition, data = self._defined(spec)
        money = self._admission.columns(definition, data)
        study_id = uuid.uuid4().hex
        row = {
            "id": study_id,
            "name": spec.study_name,
            "name_key": name_key(spec.study_name),
            "owner": owner,
            "idempotency_key": idempotency_key,
            "spec": definition.model_dump(mode="json"),
            "dataset": data.model_dump(mode="json") if data else None,
            "direction": definition.direction,
            "metric": definition.metric,
            "n_trials": spec.n_trials,
            "timeout_s": spec.timeout_s,
            "desired": "run",
            **money,
            "parallel": spec.parallel,
            "priority": spec.priority,
            "team": self._settings.team,
            "tags": spec.tags or None,
            "elapsed_s": 0.0,
            "created_at": time.time(),
        }
        with self._store.write(durable=True) as connection:
            # Two servers may have come this far with the same request: the second one gets the first one's study.
            repeated = self._same_request(connection, idempotency_key)
            if repeated is None and self._existing(connection, spec.study_name) is not None:
                raise StudyExistsError(f"Study {spec.study_name!r} was created a moment ago.", hint="Ask its status.")
            if repeated is None:
                connection.execute(insert(studies).values(row))
                events.record(connection, study_id, "created", owner, detail={"n_trials": spec.n_trials})
        if repeated is None:
            if money["state"] == "queued":
                self._launch(self._settings.workspace, study_id)
            log.info("study created", study=study_id, name=spec.study_name, owner=owner)
        return self.read.status(repeated or spec.study_name)

    def _defined(self, spec: StudySpec) -> tuple[StudyDefinition, PreparedData | None]:
        if isinstance(spec, CallableStudySpec):
            return define_callable(spec), None
        data = self._prepared(spec)
        definition = define(spec, data)
        if spec.cost_budget_usd is not None and Prices.load(self._settings).free:
            free = "cost_budget_usd limits nothing: no price is configured (TUNING_USD_PER_CPU_HOUR or costs.yaml)."
            definition = definition.model_copy(update={"warnings": [*definition.warnings, free]})
        return definition, data

    def _prepared(self, spec: DataSpec) -> PreparedData:
        if spec.data is None or spec.target is None:
            missing = "data" if spec.data is None else "target"
            raise InvalidRequestError(
                f"{missing} is missing.", hint='For example data="churn.csv", target="churn"; or pass a plan_id.'
            )
        return self._analyst.prepare(spec)

    def _resume_to(self, row: Row[Any], spec: StudySpec, by: Principal) -> StudyStatus:
        require_owner(row, by)
        earlier = StudyDefinition.model_validate(row.spec)
        found = changes(spec, earlier.spec, earlier.space)
        digest = row.dataset["digest"] if row.dataset else None
        if not found and digest is not None and self._prepared(earlier.spec).digest != digest:
            found = ["data: the file has changed since the study began"]
        if found:
            raise StudyExistsError(
                f"Study {row.name!r} exists ({row.state}) and differs: {'; '.join(found)}.",
                hint="Leave those arguments out to continue it, or choose another study_name.",
            )
        if spec.n_trials <= row.n_trials:
            raise StudyExistsError(
                f"Study {row.name!r} exists ({row.state}, {row.n_trials} trials in total).",
                hint=f"Pass n_trials > {row.n_trials} to continue it, or choose another study_name.",
            )
        more = Order(action="extend", n_trials=spec.n_trials, timeout_s=spec.timeout_s)
        self._controller.give(row.name, more, by, changed_limits(row, spec))
        return self.read.status(row.name)

    def wait(self, name: str, wait_s: float, progress: Progress = _silent) -> None:
        """Return when nothing will happen to the study by itself, or after `wait_s` seconds."""
        until = time.monotonic() + min(wait_s, WAIT_LIMIT_S)
        told = -PROGRESS_EVERY_S
        while not self.read.ended(name) and time.monotonic() < until:
            if time.monotonic() - told >= PROGRESS_EVERY_S:
                told = time.monotonic()
                progress(*self.read.progress(name))
            time.sleep(POLL_S)

    def settle(self, name: str, wait_s: float, progress: Progress = _silent) -> None:
        """Return when the study is at rest and its commands are done, or after `wait_s` seconds.

        Raises:
            ConflictError: If the latest command could not be carried out.
        """
        until = time.monotonic() + min(wait_s, WAIT_LIMIT_S)
        self.wait(name, wait_s, progress)
        while self._controller.busy(name) and time.monotonic() < until:
            time.sleep(POLL_S)
        if not self._controller.busy(name) and (error := self._controller.command_error(name)):
            raise ConflictError(f"The last command of study {name!r} failed: {error}.", hint="Read its status.")

    def control(self, name: str, action: Action, by: Caller, **parameters: object) -> StudyStatus:
        """The study's status after an order; `note` says what became of it. `parameters` are those of `Order`.

        Raises:
            StudyNotFoundError: If there is no such study.
            PermissionDeniedError: If it is somebody else's and the caller is no admin.
            StudyFinishedError: If it has ended, for what only a study that goes on can do.
            ConflictError: If the order does not fit the state of the study, or repeats what was tried.
            InvalidRequestError: If a parameter does not belong to the action, is missing or is wrong.
        """
        note = self._controller.give(name, Order.of(action, parameters), _principal(by))
        return self.read.status(name).model_copy(update={"note": note})

    def decide(self, name: str, by: Caller, decision: Decision) -> StudyStatus:
        """The study's status after somebody approved or declined what it may cost; `note` says what was decided.

        Raises:
            StudyNotFoundError: If there is no such study.
            PermissionDeniedError: If the caller may not approve.
            InvalidRequestError: If the limit is missing, or no more than what the study has cost already.
            ConflictError: If nothing is waiting to be decided.
        """
        note = self._approver.decide(name, _principal(by), decision)
        return self.read.status(name).model_copy(update={"note": note})

    def delete(self, name: str, by: Caller, *, confirm: str) -> DeletedStudy:
        """What was deleted with the study; only an admin may, and `confirm` must be the exact name.

        Raises:
            StudyNotFoundError: If there is no such study.
            PermissionDeniedError: If the caller may not delete.
            InvalidRequestError: If `confirm` is not its exact name.
            ConflictError: If it runs.
        """
        return self._remover.delete(name, _principal(by), confirm=confirm)

    def unattended(self) -> list[str]:
        """The names of studies that have work to do and nobody who does it."""
        return [name for _, name in self._unattended()]

    def runner_log(self, name: str) -> Path:
        """The file that the study's runners log to, whether it is there yet or not.

        Raises:
            StudyNotFoundError: If there is no such study.
        """
        with self._store.read() as connection:
            return study_folder(self._settings.workspace, find(connection, name).id) / "runner.log"

    def revive(self, only: str | None = None) -> list[str]:
        """The names of studies, or of one, that were given a new runner: they had work to do and nobody did it.

        What is left of deleted studies is removed, too.
        """
        revived = []
        for study_id in self._half_deleted():
            self._launch(self._settings.workspace, study_id)
        for study_id, name in self._unattended():
            if only not in {None, name}:
                continue
            self._launch(self._settings.workspace, study_id)
            revived.append(name)
            log.info("study revived", study=study_id, name=name)
        return revived

    def _unattended(self) -> list[tuple[str, str]]:
        waiting = exists().where(commands.c.study_id == studies.c.id, awaits_runner())
        unfinished: list[StudyState] = ["queued", "running"]
        with self._store.read() as connection:
            rows = connection.execute(
                select(studies.c.id, studies.c.name).where(or_(studies.c.state.in_(unfinished), waiting))
            ).all()
        return [(row.id, row.name) for row in rows if runner_lock(self._settings.workspace, row.id).is_free()]

    def _half_deleted(self) -> list[str]:
        with self._store.read() as connection:
            left = marked(connection)
        return [study_id for study_id in left if runner_lock(self._settings.workspace, study_id).is_free()]


def _principal(by: Caller) -> Principal:
    return Principal(by, Role.OPERATOR) if isinstance(by, str) else by


def name_key(name: str) -> str:
    """What two names share when they are the same but for case or composition."""
    return unicodedata.normalize("NFC", name).casefold()
