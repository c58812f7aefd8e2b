"""Answers about studies from our own rows; nothing heavy is imported and no other store is asked."""

import base64
import binascii
import math
from typing import Any

from sqlalchemy import Connection, Row, case, func, select

from mcp_server.errors import ConflictError, InvalidRequestError
from mcp_server.store import Store
from mcp_server.store.schema import attempts, sealed_reads, studies, trials
from mcp_server.studies.comparison import corrected_standard_error, running_best, sparkline, verdict
from mcp_server.studies.queries import best_first, find
from mcp_server.studies.spec import StudyDefinition
from mcp_server.studies.summary import (
    BaselineComparison,
    BestParams,
    FinalTest,
    JobSummary,
    StudyList,
    StudyStatus,
    Table,
    TrialSummary,
    TrialTable,
)
from mcp_server.tracking import outbox
from mcp_server.training.estimators import split_params, training_params
from mcp_server.types import ENDED_STATES, JsonObject, Scalar, shown

OFFSET_LIMIT = 2**31  # what every database takes

_NEXT = {
    "queued": "Ask again with wait_s=30.",
    "running": "Ask again with wait_s=30; nothing has to be done meanwhile.",
    "paused": 'Continue with control_automl_study(action="resume").',
    "finished": "get_automl_best_params has the winner ready for training.",
    "stopped": 'get_automl_best_params has the best so far; control_automl_study(action="resume") goes on.',
    "failed": "Read `error`, correct the cause and start again under another name.",
    "timeout": 'get_automl_best_params has the best so far; action="extend" with a larger timeout_s goes on.',
    "budget": "get_automl_best_params has the best so far; a start with a larger n_trials and budget goes on.",
}


class StudyReader:
    """Reads studies; `backend` names the tracking store in answers."""

    def __init__(self, store: Store, backend: str) -> None:
        self._store = store
        self._backend = backend

    def status(self, name: str, *, full: bool = False) -> StudyStatus:
        """Where the study stands.

        Raises:
            StudyNotFoundError: If there is no such study.
        """
        with self._store.read() as connection:
            row = find(connection, name)
            return self._status(connection, row, full=full)

    def _status(self, connection: Connection, row: Row[Any], *, full: bool) -> StudyStatus:
        definition = StudyDefinition.model_validate(row.spec)
        counts, failures = _counts(connection, row.id)
        best = _best(connection, row)
        baseline = _against_baseline(connection, row, best, definition)
        return StudyStatus(
            study_name=row.name,
            state=row.state,
            message=_message(row, counts, best, baseline),
            n_trials=row.n_trials,
            n_complete=counts.get("complete", 0),
            n_pruned=counts.get("pruned", 0),
            n_failed=counts.get("failed", 0),
            n_running=counts.get("running", 0),
            metric=row.metric,
            direction=row.direction,
            best_value=best.value if best else None,
            best_std=best.std if best else None,
            best_params={name: _short(value) for name, value in best.params.items()} if best else None,
            best_trial=best.number if best else None,
            baseline=baseline,
            trend=_trend(connection, row),
            stop_reason=row.stop_reason,
            error=row.error,
            failures=failures or None,
            elapsed_s=round(row.elapsed_s, 1),
            cost_usd=round(_cost(connection, row.id), 6),
            sampler=definition.spec.sampler.model_dump(),
            pruner=definition.spec.pruner.type,
            final_test=_final_test(connection, row.id),
            tracking=outbox.status(connection, row.id, self._backend),
            warnings=definition.warnings or None,
            next_step=_NEXT.get(row.stop_reason or row.state) or _NEXT[row.state],
            config=definition.spec.model_dump(mode="json", exclude_none=True) if full else None,
        )

    def page(self, limit: int = 20, cursor: str | None = None) -> StudyList:
        """The newest studies from `cursor` on."""
        offset = decode_cursor(cursor)
        is_state = {state: func.sum(case((trials.c.state == state, 1), else_=0)) for state in ("complete", "running")}
        with self._store.read() as connection:
            total = connection.scalar(select(func.count()).select_from(studies)) or 0
            page = (
                select(studies.c.id).order_by(studies.c.created_at.desc(), studies.c.id).limit(limit).offset(offset)
            ).subquery()
            rows = connection.execute(
                select(
                    studies.c.name,
                    studies.c.state,
                    studies.c.n_trials,
                    is_state["complete"].label("complete"),
                    is_state["running"].label("running"),
                    studies.c.metric,
                    case(
                        (studies.c.direction == "maximize", func.max(_complete_value())),
                        else_=func.min(_complete_value()),
                    ).label("best"),
                )
                .join(page, page.c.id == studies.c.id)
                .outerjoin(trials, trials.c.study_id == studies.c.id)
                .group_by(studies.c.id)
                .order_by(studies.c.created_at.desc(), studies.c.id)
            ).all()
        more = offset + len(rows) < total
        return StudyList(
            total=total,
            studies=Table(
                columns=["study_name", "state", "n_trials", "n_complete", "n_running", "metric", "best_value"],
                rows=[[r.name, r.state, r.n_trials, r.complete, r.running, r.metric, r.best] for r in rows],
            ),
            next_cursor=encode_cursor(offset + len(rows)) if more else None,
            message=None if total else "No study yet. Start one with inspect_dataset, then plan_automl_study.",
        )

    def compare(self, name: str, top_k: int = 5) -> TrialTable:
        """The `top_k` best trials with their values, noise and parameters."""
        with self._store.read() as connection:
            row = find(connection, name)
            counts, _ = _counts(connection, row.id)
            best = connection.execute(best_first(row.id, row.direction).limit(top_k)).all()
        parameters = list(dict.fromkeys(name for trial in best for name in trial.params))
        return TrialTable(
            study_name=row.name,
            metric=row.metric,
            direction=row.direction,
            trials=Table(
                columns=["trial", row.metric, "std", "source", *parameters],
                rows=[
                    [t.number, _short(t.value), _short(t.std), t.source, *(_short(t.params.get(p)) for p in parameters)]
                    for t in best
                ],
            ),
            n_complete=counts.get("complete", 0),
            message=None if best else "No trial has completed yet.",
        )

    def best(self, name: str) -> BestParams:
        """The winner and the block for training it.

        Raises:
            ConflictError: If no trial has completed yet.
        """
        with self._store.read() as connection:
            row = find(connection, name)
            best = _best(connection, row)
            if best is None:
                raise ConflictError(
                    f"Study {row.name!r} is {row.state} and has no completed trial.",
                    hint=row.error or "Ask get_automl_study_status with wait_s=30.",
                )
            definition = StudyDefinition.model_validate(row.spec)
            baseline = _against_baseline(connection, row, best, definition)
            return BestParams(
                study_name=row.name,
                state=row.state,
                trial=best.number,
                metric=row.metric,
                value=best.value,
                std=best.std,
                folds=best.folds,
                training=_training_block(definition, best.params),
                baseline=baseline,
                final_test=_final_test(connection, row.id),
                message=f"Best {row.metric} {_noisy(best)} in trial {best.number}."
                + (f" {baseline.verdict}" if baseline else ""),
            )

    def trials(self, name: str) -> list[TrialSummary]:
        """All trials of a study, by number."""
        with self._store.read() as connection:
            row = find(connection, name)
            rows = connection.execute(select(trials).where(trials.c.study_id == row.id).order_by(trials.c.number))
            return [TrialSummary.model_validate(dict(r._mapping)) for r in rows]  # noqa: SLF001 - a public attribute

    def table(self, name: str) -> Table:
        """All trials of a study as rows, one column per parameter and metric; exact, for export."""
        found = self.trials(name)
        parameters = list(dict.fromkeys(key for trial in found for key in trial.params))
        metrics = list(dict.fromkeys(key for trial in found for key in trial.metrics or {}))
        own = ["number", "state", "source", "value", "std", "error", "started_at", "ended_at"]
        return Table(
            columns=[*own, *(f"params.{key}" for key in parameters), *(f"metrics.{key}" for key in metrics)],
            rows=[
                [
                    *(getattr(trial, key) for key in own),
                    *(trial.params.get(key) for key in parameters),
                    *((trial.metrics or {}).get(key) for key in metrics),
                ]
                for trial in found
            ],
        )

    def jobs(self, name: str) -> list[JobSummary]:
        """All attempts of a study, in the order they started."""
        with self._store.read() as connection:
            row = find(connection, name)
            rows = connection.execute(
                select(attempts).where(attempts.c.study_id == row.id).order_by(attempts.c.started_at, attempts.c.number)
            ).all()
        return [
            JobSummary(
                job_id=f"{row.name}/{r.number}/{r.attempt}",
                study_name=row.name,
                trial=r.number,
                attempt=r.attempt,
                state=r.state,
                log_path=r.log_path,
                error=r.error,
                started_at=r.started_at,
                ended_at=r.ended_at,
                seconds=r.seconds,
                cost_usd=r.cost_usd,
            )
            for r in rows
        ]

    def ended(self, name: str) -> bool:
        """Whether nothing will happen to the study by itself."""
        with self._store.read() as connection:
            row = find(connection, name)
            return row.state in ENDED_STATES or row.state == "paused"


def encode_cursor(offset: int) -> str:
    """An opaque mark for the page that begins at `offset`."""
    return base64.urlsafe_b64encode(f"o{offset}".encode()).decode().rstrip("=")


def decode_cursor(cursor: str | None) -> int:
    """The offset behind a cursor of ours.

    Raises:
        InvalidRequestError: If it is not one.
    """
    if cursor is None:
        return 0
    try:
        text = base64.urlsafe_b64decode(cursor + "=" * (-len(cursor) % 4)).decode()
        offset = int(text.removeprefix("o"))
    except (binascii.Error, ValueError):
        offset = -1
    if not 0 <= offset < OFFSET_LIMIT:
        raise InvalidRequestError(
            f"{shown(cursor)!r} is not a cursor.", hint="Pass next_cursor of the previous page, or leave it out."
        )
    return offset


def _complete_value() -> Any:  # noqa: ANN401 - SQLAlchemy's case() has no narrower public type
    return case((trials.c.state == "complete", trials.c.value))


def _counts(connection: Connection, study_id: str) -> tuple[dict[str, int], dict[str, int]]:
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
            failures[cause or "failed"] = count
    return counts, failures


def _cost(connection: Connection, study_id: str) -> float:
    return math.fsum(connection.scalars(select(attempts.c.cost_usd).where(attempts.c.study_id == study_id)))


def _best(connection: Connection, row: Row[Any]) -> Row[Any] | None:
    return connection.execute(best_first(row.id, row.direction).limit(1)).one_or_none()


def _final_test(connection: Connection, study_id: str) -> FinalTest | None:
    rows = connection.execute(
        select(sealed_reads).where(sealed_reads.c.study_id == study_id).order_by(sealed_reads.c.id)
    ).all()
    if not rows:
        return None
    last = rows[-1]
    return FinalTest(trial=last.number, value=last.value, low=last.low, high=last.high, reads=len(rows))


def _against_baseline(
    connection: Connection, row: Row[Any], best: Row[Any] | None, definition: StudyDefinition
) -> BaselineComparison | None:
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
    done = sum(counts.values()) - counts.get("running", 0)
    detail = f", {counts['pruned']} cut early" if counts.get("pruned") else ""
    detail += f", {counts['failed']} failed" if counts.get("failed") else ""
    text = f"{row.state}: {done} of {row.n_trials} trials{detail}"
    if best is not None:
        text += f"; best {row.metric} {_noisy(best)} in trial {best.number}"
    if baseline is not None:
        text += f". {baseline.verdict}"
    return text if text.endswith(".") else text + "."


def _noisy(best: Row[Any]) -> str:
    return f"{best.value:.4g}" + (f" ± {best.std:.2g}" if best.std is not None else "")


def _trend(connection: Connection, row: Row[Any]) -> str | None:
    values = connection.scalars(
        select(trials.c.value)
        .where(trials.c.study_id == row.id, trials.c.state == "complete")
        .order_by(trials.c.number)
    ).all()
    return sparkline(running_best(values, row.direction))


def _training_block(definition: StudyDefinition, params: dict[str, Scalar]) -> JsonObject:
    spec = definition.spec
    if not definition.table:
        return {"objective": definition.objective, "params": {**params}}
    family, own = split_params(str(definition.payload["estimator"]), params)
    return {
        "data": spec.data,
        "target": spec.target,
        "estimator": family,
        "params": {**training_params(family, own, spec.fixed)},
        "metric": definition.metric,
        "seed": spec.seed,
        **({"drop": [*spec.drop]} if spec.drop else {}),
    }


def _short(value: Scalar) -> Scalar:
    return float(f"{value:.5g}") if isinstance(value, float) and not isinstance(value, bool) else value
