"""Studies that wait until somebody allows what they may cost."""

import time
from typing import Any

from sqlalchemy import Connection, Row, select

from mcp_server.access import Permission, Principal
from mcp_server.errors import ConflictError, InvalidRequestError
from mcp_server.settings import Settings
from mcp_server.store import Store
from mcp_server.store.schema import studies
from mcp_server.studies import events
from mcp_server.studies.costs import cost_of
from mcp_server.studies.decision import Approval, Decision
from mcp_server.studies.placement import Launch
from mcp_server.studies.queries import find
from mcp_server.studies.states import requeue
from mcp_server.studies.steering import write
from mcp_server.types import ENDED_STATES, WAITS_FOR_APPROVAL


class Approver:
    """Approves and declines. Safe to share between threads."""

    def __init__(self, store: Store, settings: Settings, *, launch: Launch) -> None:
        self._store = store
        self._settings = settings
        self._launch = launch

    def decide(self, name: str, by: Principal, decision: Decision) -> str:
        """What became of a study that waits, or that was approved before and may now cost more.

        It waits again when it has cost what was approved. Approving twice is approving once.

        Raises:
            StudyNotFoundError: If there is no such study.
            PermissionDeniedError: If the caller may not approve.
            InvalidRequestError: If the limit is missing, or no more than what the study has cost already.
            ConflictError: If nothing is waiting to be decided.
        """
        by.require(Permission.APPROVE, "An approval")
        with self._store.write(durable=True) as connection:
            row = find(connection, name)
            decided = (_declined if decision.decline else _approved)(connection, row, by, decision)
            write(connection, row.id, approval=decided.model_dump())
            queued = connection.scalar(select(studies.c.state).where(studies.c.id == row.id)) == "queued"
        if queued:
            self._launch(self._settings.workspace, row.id)
        return decided.sentence()


def _approved(connection: Connection, row: Row[Any], by: Principal, decision: Decision) -> Approval:
    before = _of(row)
    limit = decision.limit_usd if decision.limit_usd is not None else before.expected_usd
    spent = cost_of(connection, row.id)
    if limit is None or limit <= spent:
        problem = f"What study {row.name!r} will cost is not known"
        raise InvalidRequestError(
            f"{problem if limit is None else f'Study {row.name!r} has cost ${spent:.2f} already'}.",
            hint=f"Say what it may cost in all, e.g. limit_usd={max(2 * spent, 10.0):.0f}.",
        )
    write(connection, row.id, approved_usd=limit)
    events.record(connection, row.id, "approved", by.name, detail={"limit_usd": limit, "reason": decision.reason})
    if row.state == WAITS_FOR_APPROVAL:
        write(connection, row.id, desired="run")
        requeue(connection, row.id)
    return _decided(before, by, decision, limit)


def _declined(connection: Connection, row: Row[Any], by: Principal, decision: Decision) -> Approval:
    before = _of(row)
    if row.state != WAITS_FOR_APPROVAL:
        raise ConflictError(
            f"Study {row.name!r} is {row.state} and does not wait for an approval.",
            hint='control_automl_study(action="stop") ends what runs.',
        )
    write(connection, row.id, desired="stop")
    events.record(connection, row.id, "declined", by.name, detail={"reason": decision.reason})
    requeue(connection, row.id)  # its end is a runner's to write, like any other
    return _decided(before, by, decision, None)


def _decided(before: Approval, by: Principal, decision: Decision, limit_usd: float | None) -> Approval:
    found = {"by": by.name, "at": time.time(), "limit_usd": limit_usd, "reason": decision.reason}
    return before.model_copy(update={**found, "declined": decision.decline})


def sentence_of(row: Row[Any]) -> str | None:
    """What there is to say about the approval of a study, if it needs one."""
    return None if row.approval is None else Approval.model_validate(row.approval).sentence()


def _of(row: Row[Any]) -> Approval:
    if row.approval is None or row.state in ENDED_STATES:
        raise ConflictError(
            f"Study {row.name!r} is {row.state} and needs no approval.", hint="get_budget_report lists those that wait."
        )
    return Approval.model_validate(row.approval)
