"""The digest of a study: its status in a few hundred tokens, from our own rows."""

from typing import Any

from sqlalchemy import Connection, Row, func, select

from mcp_server.notifications import queue
from mcp_server.store.schema import attempts, commands, sealed_reads, trials
from mcp_server.studies import events
from mcp_server.studies.approvals import sentence_of
from mcp_server.studies.comparison import corrected_standard_error, running_best, sparkline, verdict
from mcp_server.studies.costs import beyond, cost_of
from mcp_server.studies.forecast import total_of
from mcp_server.studies.orders import ENQUEUE
from mcp_server.studies.queries import best_first
from mcp_server.studies.spaces import Spaces
from mcp_server.studies.spec import StudyDefinition
from mcp_server.studies.summary import BaselineComparison, FinalTest, Forecast, StudyStatus
from mcp_server.studies.turns import PLACES
from mcp_server.tracking import outbox
from mcp_server.types import ENDED_STATES, WAITS_FOR_APPROVAL, Scalar

EVENTS_SHOWN = 10
FORECAST_FROM = 200  # trials: what they take may change as the search goes on

_NEXT = {
    "waiting for approval": "An admin decides with the tool approve, or `tuning-mcp approve`; ask again later.",
    "queued": "Ask again with wait_s=30.",
    "running": "Ask again with wait_s=30; nothing has to be done meanwhile.",
    "paused": 'Continue with control_automl_study(action="resume").',
    "finished": "get_automl_best_params has the winner ready for training.",
    "stopped": 'get_automl_best_params has the best so far; control_automl_study(action="resume") goes on.',
    "failed": "Read `error`, correct the cause and start again under another name.",
    "timeout": 'get_automl_best_params has the best so far; action="extend" with a larger timeout_s goes on.',
    **dict.fromkeys(
        ("deadline", "cpu_seconds", "target", "patience", "plateau", "failures", "consecutive_failures"),
        "get_automl_best_params has the best so far; a start with a larger n_trials and other limits goes on.",
    ),
    "team_budget": "The team's month is used up; get_automl_best_params has the best so far, and resume goes on later.",
    "budget": "get_automl_best_params has the best so far; a start with a larger n_trials and budget goes on.",
}
_CAUSES = {"oom": "out of memory"}


def status_of(connection: Connection, row: Row[Any], backend: str, *, full: bool) -> StudyStatus:
    """Where the study of this row stands; `backend` names the tracking store."""
    definition = StudyDefinition.model_validate(row.spec)
    counts, failures = counts_of(connection, row.id)
    best = best_of(connection, row)
    spaces = Spaces.read(connection, row.id, definition.space)
    baseline = against_baseline(connection, row, best, definition)
    spent = cost_of(connection, row.id)
    return StudyStatus(
        study_name=row.name,
        state=row.state,
        message=_message(row, counts, best, baseline),
        n_trials=row.n_trials,
        n_complete=counts.get("complete", 0),
        n_pruned=counts.get("pruned", 0),
        n_failed=counts.get("failed", 0),
        n_running=counts.get("running", 0),
        n_waiting=waiting_of(connection, row.id) or None,
        metric=row.metric,
        direction=row.direction,
        best_value=best.value if best else None,
        best_std=best.std if best else None,
        best_params={name: short(value) for name, value in best.params.items()} if best else None,
        best_trial=best.number if best else None,
        baseline=baseline,
        trend=_trend(connection, row),
        stop_reason=row.stop_reason,
        error=row.error,
        failures=failures or None,
        elapsed_s=round(row.elapsed_s, 1),
        cost_usd=round(spent, 6),
        forecast=None if row.state in ENDED_STATES else forecast_of(connection, row, done=over(counts), spent=spent),
        approval=sentence_of(row),
        sampler=definition.spec.sampler.model_dump(),
        pruner=definition.spec.pruner.type,
        final_test=final_test_of(connection, row.id),
        tracking=outbox.status(connection, row.id, backend),
        warnings=[*definition.warnings, *queue.troubles(connection, row.id)] or None,
        next_step=_NEXT.get(row.stop_reason or row.state) or _NEXT[row.state],
        space_version=spaces.version if spaces.version > 1 else None,
        search_space=spaces.current.model_dump(mode="json") if full else None,
        config=definition.spec.model_dump(mode="json", exclude_none=True) if full else None,
        events=events.latest(connection, row.id, EVENTS_SHOWN)[0] if full else None,
    )


def forecast_of(connection: Connection, row: Row[Any], *, done: int, spent: float) -> Forecast | None:
    """What the study will have cost and how long it still takes, by its latest trials; None while too few are over."""
    rows = connection.execute(
        select(func.sum(attempts.c.cost_usd).label("usd"), func.sum(attempts.c.seconds).label("seconds"))
        .join(trials, (trials.c.study_id == attempts.c.study_id) & (trials.c.number == attempts.c.number))
        .where(attempts.c.study_id == row.id, trials.c.state != "running")
        .group_by(attempts.c.number)
        .order_by(attempts.c.number.desc())
        .limit(FORECAST_FROM)
    ).all()
    remaining = max(0, row.n_trials - done)
    cost = total_of([r.usd for r in rows], remaining, spent=spent)
    left = total_of([r.seconds for r in rows], remaining)
    if cost is None or left is None:
        return None
    # How many run at a time is what was seen: nobody may have said it, and places for trials may be scarce.
    taken = connection.scalar(select(func.sum(attempts.c.seconds)).where(attempts.c.study_id == row.id)) or 0.0
    pace = row.elapsed_s / taken if taken else 1.0
    return Forecast(
        cost_usd=[round(usd, 4) for usd in (cost.low, cost.likely, cost.high)],
        remaining_s=[float(f"{seconds * pace:.3g}") for seconds in (left.low, left.likely, left.high)],
    )


def counts_of(connection: Connection, study_id: str) -> tuple[dict[str, int], dict[str, int]]:
    """Trials by state, and failed ones by cause."""
    rows = connection.execute(
        select(trials.c.state, trials.c.cause, func.count())
        .where(trials.c.study_id == study_id)
        .group_by(trials.c.state, trials.c.cause)
    ).all()
    counts: dict[str, int] = {}
    failures: dict[str, int] = {}
    for state, cause, count in rows:
        counts[state] = counts.get(state, 0) + count
        if state == "failed":
            failures[_CAUSES.get(cause, cause or "failed")] = count
    return counts, failures


def over(counts: dict[str, int]) -> int:
    """How many of the counted trials have ended."""
    return sum(counts.values()) - counts.get("running", 0)


def waiting_of(connection: Connection, study_id: str) -> int:
    """Enqueued candidates that have not begun."""
    mine = (commands.c.study_id == study_id) & (commands.c.action == ENQUEUE) & commands.c.done_at.is_(None)
    return connection.scalar(select(func.count()).select_from(commands).where(mine)) or 0


def best_of(connection: Connection, row: Row[Any]) -> Row[Any] | None:
    """The row of the best complete trial."""
    return connection.execute(best_first(row.id, row.direction).limit(1)).one_or_none()


def best_within(connection: Connection, row: Row[Any], usd: float) -> Row[Any] | None:
    """The row of the best trial among those that completed before the study had cost more than so many US dollars."""
    late = beyond(connection, row.id, usd)
    return next(
        (trial for trial in connection.execute(best_first(row.id, row.direction)) if trial.number not in late), None
    )


def final_test_of(connection: Connection, study_id: str) -> FinalTest | None:
    """The latest score on the sealed rows."""
    rows = connection.execute(
        select(sealed_reads).where(sealed_reads.c.study_id == study_id).order_by(sealed_reads.c.id)
    ).all()
    if not rows:
        return None
    last = rows[-1]
    return FinalTest(trial=last.number, value=last.value, low=last.low, high=last.high, reads=len(rows))


def against_baseline(
    connection: Connection, row: Row[Any], best: Row[Any] | None, definition: StudyDefinition
) -> BaselineComparison | None:
    """The best trial beside trial 0, when both have completed."""
    if best is None or definition.baseline is None:
        return None
    base = connection.execute(
        select(trials).where(trials.c.study_id == row.id, trials.c.number == 0, trials.c.state == "complete")
    ).one_or_none()
    if base is None:
        return None
    difference = best.value - base.value
    error = corrected_standard_error(best.folds or [], base.folds or [])
    return BaselineComparison(
        value=base.value,
        difference=float(f"{difference:.6g}"),
        standard_error=None if error is None else float(f"{error:.4g}"),
        verdict=verdict(difference, error, is_baseline=best.number == 0),
    )


def _message(row: Row[Any], counts: dict[str, int], best: Row[Any] | None, baseline: BaselineComparison | None) -> str:
    detail = f", {counts['pruned']} cut early" if counts.get("pruned") else ""
    detail += f", {counts['failed']} failed" if counts.get("failed") else ""
    text = f"{row.state}: {over(counts)} of {row.n_trials} trials{detail}"
    if row.state == WAITS_FOR_APPROVAL:
        text += f". {sentence_of(row)}"
    if row.waits_for is not None and not counts.get("running"):
        text += f", waits for {PLACES[row.waits_for]}"
    if best is not None:
        text += f"; best {row.metric} {noisy(best)} in trial {best.number}"
    if baseline is not None:
        text += f". {baseline.verdict}"
    return text if text.endswith(".") else text + "."


def noisy(best: Row[Any]) -> str:
    """The best value with its spread, as text."""
    return f"{best.value:.4g}" + (f" ± {best.std:.2g}" if best.std is not None else "")


def _trend(connection: Connection, row: Row[Any]) -> str | None:
    values = connection.scalars(
        select(trials.c.value)
        .where(trials.c.study_id == row.id, trials.c.state == "complete")
        .order_by(trials.c.number)
    ).all()
    return sparkline(running_best(values, row.direction))


def short(value: Scalar) -> Scalar:
    """A value as a digest shows it."""
    return float(f"{value:.5g}") if isinstance(value, float) and not isinstance(value, bool) else value
