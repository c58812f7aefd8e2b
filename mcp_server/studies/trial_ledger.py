"""The trials and attempts of one study, as its runner writes them. Each method is one transaction."""

import time
from collections.abc import Mapping, Sequence
from statistics import fmean

from sqlalchemy import Connection, case, func, insert, select, update

from mcp_server.execution import STARTER_DIED, Ended
from mcp_server.store import Store, insistent
from mcp_server.store.schema import attempts, commands, reports, studies, trials
from mcp_server.studies import events
from mcp_server.studies.costs import cost_of
from mcp_server.studies.mirror import KnownTrial
from mcp_server.studies.projection import Attempt, Projection, ReportedValue
from mcp_server.studies.queries import best_first
from mcp_server.studies.spaces import Spaces
from mcp_server.studies.spec import StudyDefinition
from mcp_server.studies.states import end_attempt, end_trial
from mcp_server.studies.stopping import Gains, Tally
from mcp_server.tracking.outbox import enqueue
from mcp_server.types import JsonObject, Params, TrialState

CANCELLED = "cancelled"
RUNNER_DIED = "the study's runner was killed"

_TRIAL_STATE: Mapping[str, TrialState] = {"completed": "complete", "pruned": "pruned"}


class TrialLedger:
    """The rows of one study's trials."""

    def __init__(self, store: Store, study_id: str, definition: StudyDefinition, projection: Projection) -> None:
        self._store = store
        self._study_id = study_id
        self._definition = definition
        self._projection = projection

    @insistent
    def known(self, in_flight: Mapping[int, Sequence[ReportedValue]] | None = None) -> list[KnownTrial]:
        """All trials, by number, as the sampler's memory must have them; `in_flight` is what running ones reported."""
        seen = {number: {r.step: r.value for r in reported} for number, reported in (in_flight or {}).items()}
        with self._store.read() as connection:
            rows = connection.execute(
                select(trials).where(trials.c.study_id == self._study_id).order_by(trials.c.number)
            ).all()
            for report in connection.execute(select(reports).where(reports.c.study_id == self._study_id)):
                seen.setdefault(report.number, {})[report.step] = report.value
        return [
            KnownTrial(
                r.number, r.state, r.params, r.value, self._compared(seen.get(r.number, {})), r.source, r.space_version
            )
            for r in rows
        ]

    @insistent
    def spaces(self) -> Spaces:
        """The spaces that the study has had."""
        with self._store.read() as connection:
            return Spaces.read(connection, self._study_id, self._definition.space)

    @insistent
    def unfinished(self) -> list[Attempt]:
        """Trials whose last attempt was lost: each is due again under its own number."""
        last = (
            select(
                attempts.c.number,
                func.max(attempts.c.attempt).label("attempt"),
                func.sum(case((attempts.c.error.not_in((RUNNER_DIED, STARTER_DIED)), 1), else_=0)).label("deaths"),
                func.sum(case((attempts.c.error != RUNNER_DIED, 1), else_=0)).label("losses"),
            )
            .where(attempts.c.study_id == self._study_id)
            .group_by(attempts.c.number)
            .subquery()
        )
        with self._store.read() as connection:
            rows = connection.execute(
                select(trials, last.c.attempt, last.c.deaths, last.c.losses)
                .join(last, last.c.number == trials.c.number)
                .where(trials.c.study_id == self._study_id, trials.c.state == "running")
                .order_by(trials.c.number)
            ).all()
        return [
            Attempt(
                number=r.number,
                attempt=r.attempt,
                params=r.params,
                source=r.source,
                started_at=r.started_at,
                deaths=r.deaths,
                losses=r.losses,
                space_version=r.space_version,
            )
            for r in rows
        ]

    @insistent
    def open(self, attempt: Attempt, log_path: str) -> None:
        """Record that an attempt starts now; its first attempt creates the trial."""
        with self._store.write() as connection:
            if attempt.attempt == 0:
                connection.execute(
                    insert(trials).values(
                        study_id=self._study_id,
                        number=attempt.number,
                        state="running",
                        source=attempt.source,
                        params=attempt.params,
                        optuna_number=attempt.number,
                        space_version=attempt.space_version,
                        started_at=attempt.started_at,
                    )
                )
                if attempt.command is not None:  # with the trial, so that a candidate becomes one trial
                    done = {"done_at": attempt.started_at, "result": {"trial": attempt.number}}
                    connection.execute(update(commands).where(commands.c.id == attempt.command).values(**done))
            connection.execute(
                insert(attempts).values(
                    study_id=self._study_id,
                    number=attempt.number,
                    attempt=attempt.attempt,
                    state="running",
                    log_path=log_path,
                    started_at=attempt.started_at,
                )
            )

    def tick(self, connection: Connection, attempt: Attempt, seconds: float) -> None:
        """Record, as part of the caller's transaction, what a running attempt took so far."""
        here = (attempts.c.study_id == self._study_id) & (attempts.c.number == attempt.number)
        values = {"seconds": seconds, "cost_usd": attempt.cost_usd(seconds)}
        connection.execute(
            update(attempts)
            .where(here, attempts.c.attempt == attempt.attempt, attempts.c.state == "running")
            .values(values)
        )

    def lose_running(self, connection: Connection, now: float) -> None:
        """Record, as part of the caller's transaction, that no attempt outlived the study's runner."""
        running = select(attempts).where(attempts.c.study_id == self._study_id, attempts.c.state == "running")
        for row in connection.execute(running).all():
            end_attempt(connection, self._study_id, row.number, row.attempt, "lost", ended_at=now, error=RUNNER_DIED)
            detail: JsonObject = {"error": RUNNER_DIED}
            events.record(
                connection, self._study_id, "attempt_lost", number=row.number, attempt=row.attempt, detail=detail
            )

    @insistent
    def lose(self, attempt: Attempt, ended: Ended) -> None:
        """Record that an attempt was lost; the trial stays open."""
        with self._store.write(durable=True) as connection:
            self._end_attempt(connection, attempt, ended, time.time())
            self._record(connection, "attempt_lost", attempt, {"error": ended.error})

    @insistent
    def close(self, attempt: Attempt, ended: Ended, elapsed_s: float) -> tuple[TrialState, float | None]:
        """The trial's final state and value, committed to disk together with what tracking has to learn.

        This is the commit point of a trial: everything else follows it and can be repeated.
        """
        now = time.time()
        state = _TRIAL_STATE.get(ended.state, "failed")
        result = ended.result if state == "complete" else None
        value = result.value if result else None
        error = ended.error if state == "failed" else None
        explanation = attempt.explanation if state == "pruned" else None
        with self._store.write(durable=True) as connection:
            self._end_attempt(connection, attempt, ended, now)
            if attempt.reports:
                connection.execute(insert(reports), self._report_rows(attempt))
            end_trial(
                connection,
                self._study_id,
                attempt.number,
                state,
                value=value,
                std=result.std if result else None,
                folds=(result.folds if result else [r.value for r in attempt.reports]) or None,
                metrics=result.metrics if result else None,
                error=error,
                cause=ended.state if state == "failed" else None,
                explanation=explanation,
                ended_at=now,
            )
            detail: JsonObject = {
                "source": attempt.source, "state": state, "as": ended.state, "value": value, "why": error or explanation
            }  # fmt: skip
            self._record(connection, "trial_ended", attempt, detail)
            set_elapsed(connection, self._study_id, elapsed_s)
            best = self.best_value(connection)
            cost = cost_of(connection, self._study_id, attempt.number)
            enqueue(connection, self._projection.trial(attempt, state, ended, best=best, now=now, cost_usd=cost))
        return state, value

    @insistent
    def tally(self) -> Tally:
        """Counts and costs so far."""
        with self._store.read() as connection:
            ended = case((trials.c.cause == CANCELLED, CANCELLED), else_=trials.c.state)
            rows = connection.execute(
                select(ended, trials.c.value)
                .where(trials.c.study_id == self._study_id, trials.c.state != "running")
                .order_by(trials.c.ended_at, trials.c.number)
            ).all()
            used = connection.execute(
                select(attempts.c.cost_usd, attempts.c.cpu_seconds).where(
                    attempts.c.study_id == self._study_id, attempts.c.state != "running"
                )
            ).all()
        tally = Tally(gains=Gains(self._definition.spec.limits, self._definition.direction))
        for state, value in rows:
            tally.count(state, value)
        for cost_usd, cpu_seconds in used:
            tally.add_cost(cost_usd, cpu_seconds)
        return tally

    @insistent
    def last_error(self) -> str | None:
        """Why the latest failed trial failed."""
        with self._store.read() as connection:
            return connection.scalar(
                select(trials.c.error)
                .where(trials.c.study_id == self._study_id, trials.c.state == "failed")
                .order_by(trials.c.ended_at.desc())
                .limit(1)
            )

    @insistent
    def best(self) -> tuple[int, Params] | None:
        """Number and parameters of the best complete trial."""
        with self._store.read() as connection:
            row = connection.execute(best_first(self._study_id, self._definition.direction).limit(1)).one_or_none()
        return (row.number, row.params) if row else None

    def best_value(self, connection: Connection) -> float | None:
        """The best value so far, as part of the caller's transaction."""
        extreme = func.max if self._definition.direction == "maximize" else func.min
        return connection.scalar(
            select(extreme(trials.c.value)).where(trials.c.study_id == self._study_id, trials.c.state == "complete")
        )

    def _compared(self, reported: dict[int, float]) -> dict[int, float]:
        """What the pruner compared when these values came in: of folds, perhaps their mean so far."""
        if not self._definition.table:
            return reported
        ordered = [reported[step] for step in sorted(reported)]
        seen = self._definition.spec.pruner.seen
        return {step: seen(reported[step], fmean(ordered[: i + 1])) for i, step in enumerate(sorted(reported))}

    def _report_rows(self, attempt: Attempt) -> list[JsonObject]:
        key: JsonObject = {"study_id": self._study_id, "number": attempt.number, "attempt": attempt.attempt}
        steps = {report.step: report for report in attempt.reports}  # the last report of a step counts
        return [{**key, **report._asdict()} for report in steps.values()]

    def _end_attempt(self, connection: Connection, attempt: Attempt, ended: Ended, now: float) -> None:
        values: dict[str, object] = {"error": ended.error, "ended_at": now}
        if ended.seconds or attempt.charged_usd:  # else nobody knows more than what was recorded while it ran
            cost_usd = attempt.cost_usd(ended.seconds)
            values |= {"seconds": ended.seconds, "cpu_seconds": ended.cpu_seconds, "cost_usd": cost_usd}
        end_attempt(connection, self._study_id, attempt.number, attempt.attempt, ended.state, **values)

    def _record(self, connection: Connection, kind: events.EventKind, attempt: Attempt, detail: JsonObject) -> None:
        events.record(connection, self._study_id, kind, number=attempt.number, attempt=attempt.attempt, detail=detail)


def set_elapsed(connection: Connection, study_id: str, elapsed_s: float) -> None:
    """Record the running seconds of a study."""
    connection.execute(update(studies).where(studies.c.id == study_id).values(elapsed_s=elapsed_s))
