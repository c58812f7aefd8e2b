"""Answers about studies from our own rows; nothing heavy is imported and no other store is asked."""

import base64
import binascii
from collections.abc import Sequence
from typing import Any

from sqlalchemy import Connection, Row, case, func, select

from mcp_server.errors import ConflictError, InvalidRequestError
from mcp_server.store import Store
from mcp_server.store.schema import attempts, studies, trials
from mcp_server.studies import events
from mcp_server.studies.digest import (
    against_baseline,
    best_of,
    best_within,
    counts_of,
    final_test_of,
    noisy,
    short,
    status_of,
)
from mcp_server.studies.progress import Progress, progress_of
from mcp_server.studies.queries import best_first, find
from mcp_server.studies.spec import StudyDefinition
from mcp_server.studies.summary import (
    BestParams,
    EventList,
    JobSummary,
    StudyList,
    StudyStatus,
    Table,
    TrialSummary,
    TrialTable,
)
from mcp_server.studies.waiting import waiting_of
from mcp_server.training.estimators import ESTIMATOR, split_params, training_params
from mcp_server.types import ENDED_STATES, WAITS_FOR_APPROVAL, JsonObject, Params, Scalar, shown

OWN_PARAMS = "own_params"
OFFSET_LIMIT = 2**31  # what every database takes


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
            status = status_of(connection, row, self._backend, full=full)
        waiting = waiting_of(self._store.folder, row.id)
        return status.model_copy(update={"waiting": str(waiting)}) if waiting else status

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
            counts, _ = counts_of(connection, row.id)
            best = connection.execute(best_first(row.id, row.direction).limit(top_k)).all()
        return TrialTable(
            study_name=row.name,
            metric=row.metric,
            direction=row.direction,
            trials=_side_by_side(row.metric, best),
            n_complete=counts.get("complete", 0),
            message=None if best else "No trial has completed yet.",
        )

    def best(self, name: str, *, within_usd: float | None = None) -> BestParams:
        """The winner and the block for training it; of what the study found while it had cost `within_usd`, if given.

        Raises:
            ConflictError: If no trial has completed yet, or none for so little.
        """
        with self._store.read() as connection:
            row = find(connection, name)
            definition = StudyDefinition.model_validate(row.spec)
            best = best_of(connection, row) if within_usd is None else best_within(connection, row, within_usd)
            if best is None:
                limit = "" if within_usd is None else f" that came within ${within_usd:g}"
                raise ConflictError(
                    f"Study {row.name!r} is {row.state} and has no completed trial{limit}.",
                    hint=row.error or "Ask get_automl_study_status with wait_s=30.",
                )
            baseline = against_baseline(connection, row, best, definition)
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
                final_test=final_test_of(connection, row.id),
                message=f"Best {row.metric} {noisy(best)} in trial {best.number}."
                + (f" {baseline.verdict}" if baseline else "")
                + _over_budget(connection, row, best, definition.spec.cost_budget_usd),
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
        own = ["number", "state", "source", "value", "std", "error", "explanation", "started_at", "ended_at"]
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

    def events(self, name: str, limit: int = 50, cursor: str | None = None) -> EventList:
        """What was ordered of a study and what happened to it, newest first.

        Raises:
            StudyNotFoundError: If there is no such study.
            InvalidRequestError: If the cursor is none of ours.
        """
        before = decode_cursor(cursor) if cursor is not None else None
        with self._store.read() as connection:
            row = find(connection, name)
            found, older = events.latest(connection, row.id, limit, before)
        return EventList(study_name=row.name, events=found, next_cursor=None if older is None else encode_cursor(older))

    def progress(self, name: str) -> Progress:
        """How far the study is, in one line; cheap enough to ask often.

        Raises:
            StudyNotFoundError: If there is no such study.
        """
        with self._store.read() as connection:
            row = find(connection, name)
            found = progress_of(connection, row)
        waiting = waiting_of(self._store.folder, row.id)
        return found._replace(line=f"{found.line}; waiting: {waiting}") if waiting else found

    def ended(self, name: str) -> bool:
        """Whether nothing will happen to the study by itself."""
        with self._store.read() as connection:
            row = find(connection, name)
            return row.state in ENDED_STATES or row.state in {"paused", WAITS_FOR_APPROVAL}


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


def _over_budget(connection: Connection, row: Row[Any], best: Row[Any], usd: float | None) -> str:
    if usd is None or best_within(connection, row, usd) == best:
        return ""
    return f" It ended when the budget was used up; within_usd={usd:g} gives the best inside it."


def _side_by_side(metric: str, found: Sequence[Row[Any]]) -> Table:
    """Trials as rows: a column for each parameter that all of them have, and one for what only some have.

    Families of estimators share few parameters, so that a column each would mostly hold nothing.
    """
    names = list(dict.fromkeys(name for trial in found for name in trial.params))
    shared = [name for name in names if all(name in trial.params for trial in found)]
    folded = [OWN_PARAMS] if len(shared) < len(names) else []
    rows = [
        [
            *(trial.number, short(trial.value), short(trial.std), trial.source),
            *(short(trial.params[name]) for name in shared),
            *(_folded(trial.params, shared) for _ in folded),
        ]
        for trial in found
    ]
    return Table(columns=["trial", metric, "std", "source", *shared, *folded], rows=rows)


def _folded(params: Params, shared: Sequence[str]) -> str:
    chosen = params.get(ESTIMATOR)
    own = {name.removeprefix(f"{chosen}."): short(value) for name, value in params.items() if name not in shared}
    return ", ".join(f"{name}={value}" for name, value in own.items())


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
