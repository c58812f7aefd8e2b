"""Orders to a study that goes on: how many trials at a time, what to try next, where to search, which trial to stop."""

import time
from typing import Any

from sqlalchemy import Connection, Row, func, insert, select, update

from mcp_server.access import Permission, Principal
from mcp_server.errors import ConflictError, InvalidRequestError, StudyFinishedError
from mcp_server.store.schema import commands, studies, trials
from mcp_server.studies import spaces
from mcp_server.studies.candidates import Tried, checked, refuse_repeated
from mcp_server.studies.machine import Machine
from mcp_server.studies.orders import ENQUEUE, STOP_TRIAL, Order
from mcp_server.studies.priority import Priority
from mcp_server.studies.samplers import GridSearch
from mcp_server.studies.spaces import Spaces
from mcp_server.studies.spec import StudyDefinition
from mcp_server.types import ENDED_STATES, JsonObject


def steer(connection: Connection, row: Row[Any], order: Order, by: Principal, *, machine: Machine) -> str | None:
    """Write an order that leaves the state of the study alone; what the caller should know about it.

    Raises:
        StudyFinishedError: If the study has ended.
        ConflictError: If it repeats what was tried, or all trials are taken.
        InvalidRequestError: If a value is wrong.
    """
    if row.state in ENDED_STATES:
        raise StudyFinishedError(
            f"Study {row.name!r} has ended ({row.state}).",
            hint='Use action="extend" with a larger n_trials first; it then goes on.',
        )
    match order.action:
        case "enqueue":
            return _enqueue(connection, row, order, by)
        case "narrow" | "widen":
            return _change_space(connection, row, order, by)
        case "set_priority":
            require_priority(order.priority, by)
            write(connection, row.id, priority=order.priority)
            return f"Its trials now start with {order.priority} priority."
        case _:
            gpus = StudyDefinition.model_validate(row.spec).spec.gpus
            machine.check(order.parallel, gpus=gpus, force=order.force)
            write(connection, row.id, parallel=order.parallel)
    return None


def require_priority(priority: Priority | None, by: Principal) -> None:
    """Let anybody lower a study's priority, and admins raise it above those of others.

    Raises:
        PermissionDeniedError: If `by` may not.
    """
    if priority == "high":
        by.require(Permission.ADMIN, "The priority high")


def write(connection: Connection, study_id: str, **values: object) -> None:
    """Write columns of a study that orders own."""
    connection.execute(update(studies).where(studies.c.id == study_id).values(**values))


def command(connection: Connection, row: Row[Any], action: str, arguments: JsonObject, by: Principal) -> None:
    """Leave a request that only the study's runner can carry out."""
    connection.execute(
        insert(commands).values(
            study_id=row.id, action=action, arguments=arguments, owner=by.name, created_at=time.time()
        )
    )


def stop_trial(connection: Connection, row: Row[Any], number: int, by: Principal) -> str:
    """Ask for the end of one trial.

    Raises:
        ConflictError: If it does not run; it says which ones do.
    """
    rows = connection.execute(select(trials.c.number, trials.c.state).where(trials.c.study_id == row.id))
    states: dict[int, str] = {r.number: r.state for r in rows}
    if states.get(number) != "running":
        running = ", ".join(str(other) for other, state in sorted(states.items()) if state == "running")
        found = f"is {states[number]} already" if number in states else "has not begun"
        raise ConflictError(
            f"Trial {number} of study {row.name!r} {found}.", hint=f"Running: {running}." if running else "None runs."
        )
    command(connection, row, STOP_TRIAL, {"trial": number}, by)
    return f"Trial {number} is being stopped and will count as cancelled; the study goes on."


def _enqueue(connection: Connection, row: Row[Any], order: Order, by: Principal) -> str:
    definition = StudyDefinition.model_validate(row.spec)
    _refuse_grid(definition, "every point of it gets its turn")
    space = Spaces.read(connection, row.id, definition.space).current
    point = checked(space, order.params or {}, definition.spec.fixed)
    begun = connection.scalar(select(func.count()).select_from(trials).where(trials.c.study_id == row.id)) or 0
    waiting = _waiting(connection, row.id)
    baseline = definition.baseline is not None and not begun
    if begun + len(waiting) + baseline >= row.n_trials:
        raise ConflictError(
            f"All {row.n_trials} trials of study {row.name!r} have begun or wait.",
            hint=f'Use action="extend", e.g. n_trials={row.n_trials + 10}, and enqueue then.',
        )
    if not order.force:
        refuse_repeated(space, point, [*_tried(connection, row.id), *waiting])
    command(connection, row, ENQUEUE, {"params": {**point}}, by)
    return (
        f"The candidate is tried next, as one of the {row.n_trials} trials: {begun} have begun and "
        f"{len(waiting) + 1} wait{'' if row.state in {'queued', 'running'} else f', and the study is {row.state}'}."
    )


def _tried(connection: Connection, study_id: str) -> list[Tried]:
    rows = connection.execute(
        select(trials.c.number, trials.c.state, trials.c.params, trials.c.value).where(trials.c.study_id == study_id)
    )
    return [Tried(r.params, f"Trial {r.number} ({_outcome(r.state, r.value)}) has") for r in rows]


def _outcome(state: str, value: float | None) -> str:
    return state if value is None else f"value {value:.5g}"


def _waiting(connection: Connection, study_id: str) -> list[Tried]:
    mine = (commands.c.study_id == study_id) & (commands.c.action == ENQUEUE) & commands.c.done_at.is_(None)
    return [
        Tried(arguments["params"], "A candidate that waits has")
        for arguments in connection.scalars(select(commands.c.arguments).where(mine))
    ]


def _change_space(connection: Connection, row: Row[Any], order: Order, by: Principal) -> str:
    definition = StudyDefinition.model_validate(row.spec)
    _refuse_grid(definition, "its points are fixed at the start")
    known = Spaces.read(connection, row.id, definition.space)
    fresh = known.changed(order.search_space or {}, "narrow" if order.action == "narrow" else "widen")
    version = spaces.record(connection, row, known, fresh, by.name)
    return f"New trials come from version {version} of the search space: {'; '.join(known.current.differences(fresh))}."


def _refuse_grid(definition: StudyDefinition, why: str) -> None:
    if isinstance(definition.spec.sampler, GridSearch):
        raise InvalidRequestError(
            f"This study runs a grid: {why}.", hint="Start another study with this search_space, or another sampler."
        )
