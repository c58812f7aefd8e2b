"""What MLflow is owed, made again from our rows."""

from typing import Any

from sqlalchemy import ColumnElement, Connection, Row, func, select, update

from mcp_server.execution import Ended, TrialResult
from mcp_server.store.schema import attempts, outbox, reports, studies, trials
from mcp_server.studies.costs import cost_of
from mcp_server.studies.ledger import Ledger
from mcp_server.studies.projection import Attempt, ReportedValue
from mcp_server.tracking.outbox import enqueue
from mcp_server.tracking.records import StudyRecord, TrialRecord, study_key
from mcp_server.types import ENDED_STATES


def owe_again(connection: Connection, ledger: Ledger, keys: list[str]) -> None:
    """Write these records of a study anew, as its rows say, and have them delivered with the study's end."""
    row = connection.execute(select(studies).where(studies.c.id == ledger.study_id)).one()
    for key in keys:
        record = _record(connection, ledger, row, key)
        enqueue(connection, record)
        connection.execute(update(outbox).where(outbox.c.key == key).values(payload=record.to_json()))
    if row.state in ENDED_STATES:  # what comes after the last end would open the study's run again
        mine = (outbox.c.study_id == ledger.study_id) & (outbox.c.kind == "study_end")
        sequence = connection.scalar(select(func.count()).select_from(outbox).where(mine)) or 0
        best = ledger.trials.best_value(connection)
        cost = cost_of(connection, ledger.study_id)
        end = ledger.projection.end(row.state, row.stop_reason, row.ended_at, best, sequence=sequence, cost_usd=cost)
        enqueue(connection, end)
    deliver_again(connection, ledger.study_id, keys)


def deliver_again(connection: Connection, study_id: str, keys: list[str]) -> None:
    """Have these records delivered once more; each is looked for in MLflow first, so that no run is there twice."""
    again: ColumnElement[bool] = outbox.c.key.in_([*keys, study_key(study_id)])
    if connection.scalar(select(studies.c.state).where(studies.c.id == study_id)) in ENDED_STATES:
        ends = (outbox.c.study_id == study_id) & (outbox.c.kind == "study_end")
        again |= outbox.c.id == select(func.max(outbox.c.id)).where(ends).scalar_subquery()
    values = {"state": "creating", "run_id": None, "failures": 0, "error": None, "done_at": None}
    connection.execute(update(outbox).where(outbox.c.study_id == study_id, again).values(values))


def _record(connection: Connection, ledger: Ledger, row: Row[Any], key: str) -> StudyRecord | TrialRecord:
    if key == study_key(ledger.study_id):
        return ledger.projection.study(row.started_at or row.created_at, row.dataset)
    return _trial_record(connection, ledger, int(key.rpartition("/")[2]))


def _trial_record(connection: Connection, ledger: Ledger, number: int) -> TrialRecord:
    here = (trials.c.study_id == ledger.study_id) & (trials.c.number == number)
    trial = connection.execute(select(trials).where(here)).one()
    mine = (attempts.c.study_id == ledger.study_id) & (attempts.c.number == number)
    last = connection.execute(select(attempts).where(mine).order_by(attempts.c.attempt.desc()).limit(1)).one()
    attempt = Attempt(number, last.attempt, trial.params, trial.source, last.started_at)
    attempt.explanation = trial.explanation
    attempt.reports = _reports(connection, ledger.study_id, number, last.attempt)
    ended = Ended("", last.state, last.seconds, last.cpu_seconds, _result(trial), trial.error)
    best = _best_so_far(connection, trial, ledger)
    cost = cost_of(connection, ledger.study_id, number)
    return ledger.projection.trial(attempt, trial.state, ended, best=best, now=trial.ended_at, cost_usd=cost)


def _result(trial: Row[Any]) -> TrialResult | None:
    if trial.state != "complete":
        return None
    return TrialResult(trial.value, trial.std, trial.folds or [], trial.metrics or {})


def _reports(connection: Connection, study_id: str, number: int, attempt: int) -> list[ReportedValue]:
    mine = (reports.c.study_id == study_id) & (reports.c.number == number) & (reports.c.attempt == attempt)
    rows = connection.execute(select(reports).where(mine).order_by(reports.c.step)).all()
    return [ReportedValue(row.step, row.value, row.at) for row in rows]


def _best_so_far(connection: Connection, trial: Row[Any], ledger: Ledger) -> float | None:
    extreme = func.max if ledger.definition.direction == "maximize" else func.min
    earlier = (trials.c.study_id == ledger.study_id) & (trials.c.ended_at <= trial.ended_at)
    found: float | None = connection.scalar(
        select(extreme(trials.c.value)).where(earlier, trials.c.state == "complete")
    )
    return found
