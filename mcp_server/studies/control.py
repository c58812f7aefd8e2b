"""Orders to a study: what servers and the command line write, and its runner carries out."""

import math
from typing import Any

from sqlalchemy import Connection, Row, exists, select

from mcp_server.access import Permission, Principal
from mcp_server.errors import ConflictError, InvalidRequestError, PermissionDeniedError, StudyFinishedError
from mcp_server.settings import Settings
from mcp_server.store import Store
from mcp_server.store.schema import commands, studies
from mcp_server.studies import events
from mcp_server.studies.approvals import sentence_of
from mcp_server.studies.machine import Machine
from mcp_server.studies.orders import FINAL_TEST, Order
from mcp_server.studies.placement import Launch, runner_lock
from mcp_server.studies.queries import find
from mcp_server.studies.spec import StudySpec
from mcp_server.studies.states import requeue
from mcp_server.studies.steering import command, steer, stop_trial, write
from mcp_server.types import ENDED_STATES, WAITS_FOR_APPROVAL, JsonObject


class Controller:
    """Gives orders to the studies of one workspace. Safe to share between threads.

    An order is one transaction: it is written with its event, or refused and nothing has changed.
    """

    def __init__(self, store: Store, settings: Settings, *, launch: Launch) -> None:
        self._store = store
        self._settings = settings
        self._launch = launch

    def give(self, name: str, order: Order, by: Principal, limits: JsonObject | None = None) -> str | None:
        """Write an order; what the caller should know about it, if anything.

        `limits` are other fields of the spec that an `extend` changes.

        Raises:
            StudyNotFoundError: If there is no such study.
            PermissionDeniedError: If it is somebody else's and the caller is no admin.
            StudyFinishedError: If it has ended, for what only a study that goes on can do.
            ConflictError: If the order does not fit the state of the study, or repeats what was tried.
            InvalidRequestError: If a parameter does not belong to the action, is missing or is wrong.
        """
        order.check()
        with self._store.write(durable=True) as connection:
            row = find(connection, name)
            require_owner(row, by)
            detail: JsonObject = {"action": order.action, **order.given(), **(limits or {})}
            events.record(connection, row.id, "ordered", by.name, detail=detail)
            note = self._carry_out(connection, row, order, by, limits or {})
            state = connection.scalar(select(studies.c.state).where(studies.c.id == row.id))
        self._wake(row.id, state, wanted=order.action == FINAL_TEST)
        return note

    def _wake(self, study_id: str, state: str | None, *, wanted: bool = False) -> None:
        """Start a runner where there is something to do for one; one that lives hears of the order by itself."""
        if (
            state == "queued"
            or wanted
            or (state == "running" and runner_lock(self._settings.workspace, study_id).is_free())
        ):
            self._launch(self._settings.workspace, study_id)

    def _carry_out(
        self, connection: Connection, row: Row[Any], order: Order, by: Principal, limits: JsonObject
    ) -> str | None:
        if row.state == WAITS_FOR_APPROVAL and order.action in {"pause", "resume", "extend"}:
            raise ConflictError(
                f"Study {row.name!r} waits for an approval: {sentence_of(row)}",
                hint='Ask an admin to approve it, or end it with action="stop".',
            )
        match order.action:
            case "pause" | "stop":
                return _halt(connection, row, order, by)
            case "resume":
                _resume(connection, row)
            case "extend":
                _extend(connection, row, order, limits)
            case "final_test":
                _request_final_test(connection, row, by)
            case _:
                return steer(connection, row, order, by, machine=Machine.of(self._settings))
        return None

    def command_error(self, name: str) -> str | None:
        """Why the study's latest final test failed, None when it did not."""
        with self._store.read() as connection:
            row = find(connection, name)
            mine = (commands.c.study_id == row.id) & (commands.c.action == FINAL_TEST)
            return connection.scalar(select(commands.c.error).where(mine).order_by(commands.c.id.desc()).limit(1))

    def busy(self, name: str) -> bool:
        """Whether the study has a final test that is not done."""
        with self._store.read() as connection:
            row = find(connection, name)
            return bool(connection.scalar(select(exists().where(commands.c.study_id == row.id, awaits_runner()))))


def require_owner(row: Row[Any], by: Principal) -> None:
    """Let the owner of a study and admins go on.

    Raises:
        PermissionDeniedError: For anybody else; it names the owner.
    """
    if row.owner != by.name and not by.allows(Permission.ADMIN):
        raise PermissionDeniedError(
            f"Study {row.name!r} belongs to {row.owner}; {by.name} may read it only.",
            hint=f"Ask {row.owner}, or somebody with the role admin.",
        )


def awaits_runner() -> Any:  # noqa: ANN401 - SQLAlchemy's type of a condition has a parameter that says nothing here
    """The condition on `commands` of those that need a runner even when their study is at rest."""
    return (commands.c.action == FINAL_TEST) & commands.c.done_at.is_(None)


def changed_limits(row: Row[Any], spec: StudySpec) -> JsonObject:
    """What `spec` sets of the limits that a runner reads when it starts."""
    names = {"trial_timeout_s", "parallel", "cost_budget_usd", "limits"} & spec.model_fields_set
    given = spec.model_dump(mode="json", include=names)
    present = {**row.spec["spec"], "parallel": row.parallel}  # as it was last ordered
    limits = {name: value for name, value in sorted(given.items()) if value != present.get(name)}
    if limits and row.state in {"queued", "running"}:
        raise ConflictError(
            f"{', '.join(limits)} cannot change while study {row.name!r} is {row.state}.", hint="Pause it first."
        )
    return limits


def _halt(connection: Connection, row: Row[Any], order: Order, by: Principal) -> str | None:
    if row.state in ENDED_STATES:
        raise StudyFinishedError(
            f"Study {row.name!r} has ended already ({row.state}).", hint="Nothing is running; read its status."
        )
    if order.trial is not None:
        return stop_trial(connection, row, order.trial, by)
    if order.action == "pause":
        write(connection, row.id, desired="pause")
        return None
    write(connection, row.id, desired="drain" if order.how == "drain" else "stop")
    if row.state in {"paused", WAITS_FOR_APPROVAL}:  # its end is a runner's to write, like any other
        requeue(connection, row.id)
    return None


def _resume(connection: Connection, row: Row[Any]) -> None:
    if row.state == "finished":
        raise StudyFinishedError(
            f"Study {row.name!r} has finished its {row.n_trials} trials.",
            hint='Use action="extend" with a larger n_trials.',
        )
    if row.state in {"queued", "running"} and row.desired == "run":
        raise ConflictError(f"Study {row.name!r} is {row.state} already.", hint="Read its status.")
    if row.timeout_s is not None and row.elapsed_s >= row.timeout_s:
        raise ConflictError(
            f"Study {row.name!r} has used its {row.timeout_s:g} s.",
            hint=f'Use action="extend" with a larger timeout_s, e.g. {2 * row.timeout_s:g}.',
        )
    _run(connection, row, {})


def _extend(connection: Connection, row: Row[Any], order: Order, limits: JsonObject) -> None:
    n_trials, timeout_s = order.n_trials, order.timeout_s
    more_time = n_trials is None and timeout_s is not None and timeout_s > (row.timeout_s or math.inf)
    if not (more_time or (n_trials is not None and n_trials > row.n_trials)):
        raise InvalidRequestError(
            f"extend needs n_trials above the present total of {row.n_trials}"
            + ("." if n_trials is None else f", got {n_trials}."),
            hint=f"n_trials is the new total, e.g. {row.n_trials * 2}.",
        )
    given: JsonObject = {"n_trials": n_trials, "timeout_s": timeout_s}
    values = {name: value for name, value in given.items() if value is not None}
    spec = {**row.spec, "spec": {**row.spec["spec"], **values, **limits}}
    parallel = {"parallel": limits["parallel"]} if "parallel" in limits else {}
    _run(connection, row, {**values, **parallel, "spec": spec})


def _request_final_test(connection: Connection, row: Row[Any], by: Principal) -> None:
    if row.state not in ENDED_STATES and row.state not in {"paused", WAITS_FOR_APPROVAL}:
        raise ConflictError(
            f"Study {row.name!r} is {row.state}: its winner is not known yet.",
            hint="Test it when the study has ended.",
        )
    if not row.dataset or not row.dataset["n_sealed"]:
        raise InvalidRequestError(
            f"Study {row.name!r} has no sealed test rows.", hint="Start one with test_size > 0, e.g. 0.2."
        )
    command(connection, row, FINAL_TEST, {}, by)


def _run(connection: Connection, row: Row[Any], values: JsonObject) -> None:
    write(connection, row.id, desired="run", **values)
    if row.state not in {"queued", "running"}:
        requeue(connection, row.id)
