"""One study's rows, as its runner writes them. Each method is one transaction."""

import time
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from statistics import fmean
from typing import cast

from sqlalchemy import Connection, case, func, insert, select, update

from mcp_server.execution import Ended
from mcp_server.settings import Settings
from mcp_server.store import Store
from mcp_server.store.schema import attempts, commands, outbox, reports, sealed_reads, studies, trials
from mcp_server.studies.mirror import KnownTrial
from mcp_server.studies.projection import Attempt, Projection
from mcp_server.studies.queries import best_first
from mcp_server.studies.spec import StudyDefinition
from mcp_server.studies.stopping import Tally
from mcp_server.tracking.outbox import enqueue
from mcp_server.types import JsonObject, Params, StudyState, TrialState

CANCELLED = "cancelled"
RUNNER_DIED = "the study's runner was killed"

_TRIAL_STATE: Mapping[str, TrialState] = {"completed": "complete", "pruned": "pruned"}


@dataclass(frozen=True)
class Orders:
    """What servers and the command line want of a study right now."""

    desired: str
    state: str
    n_trials: int
    timeout_s: float | None


@dataclass(frozen=True)
class Command:
    """A request that only the runner can carry out."""

    id: int
    action: str
    arguments: JsonObject


class Ledger:
    """The rows of one study in the workspace database."""

    def __init__(self, store: Store, settings: Settings, study_id: str) -> None:
        self._store = store
        self.study_id = study_id
        with store.read() as connection:
            row = connection.execute(select(studies).where(studies.c.id == study_id)).one()
        self.name: str = row.name
        self.definition = StudyDefinition.model_validate(row.spec)
        self.projection = Projection(settings, study_id, row.name, self.definition)
        self.usd_per_second = 0.0

    def orders(self) -> Orders:
        """The study's orders."""
        with self._store.read() as connection:
            return self._orders(connection)

    def waits(self) -> bool:
        """Whether the study has something to do that nobody has begun."""
        return self.orders().state == "queued" or bool(self.pending_commands())

    def begin(self) -> None:
        """Mark the study as running and its unfinished attempts as lost; tracking learns of the study."""
        now = time.time()
        with self._store.write(durable=True) as connection:
            connection.execute(
                update(attempts)
                .where(attempts.c.study_id == self.study_id, attempts.c.state == "running")
                .values(state="lost", ended_at=now, error=RUNNER_DIED)
            )
            row = connection.execute(select(studies).where(studies.c.id == self.study_id)).one()
            connection.execute(
                update(studies)
                .where(studies.c.id == self.study_id)
                .values(
                    state="running",
                    started_at=row.started_at or now,
                    ended_at=None,
                    stop_reason=None,
                    error=None,
                )
            )
            enqueue(connection, self.projection.study(row.started_at or now, row.dataset))

    def known_trials(self) -> list[KnownTrial]:
        """All trials, by number, as the sampler's memory must have them."""
        seen: dict[int, dict[int, float]] = {}
        with self._store.read() as connection:
            rows = connection.execute(
                select(trials).where(trials.c.study_id == self.study_id).order_by(trials.c.number)
            ).all()
            for report in connection.execute(select(reports).where(reports.c.study_id == self.study_id)):
                seen.setdefault(report.number, {})[report.step] = report.value
        return [KnownTrial(r.number, r.state, r.params, r.value, self._compared(seen.get(r.number, {}))) for r in rows]

    def unfinished(self) -> list[Attempt]:
        """Trials whose last attempt was lost: each is due again under its own number."""
        last = (
            select(
                attempts.c.number,
                func.max(attempts.c.attempt).label("attempt"),
                func.sum(case((attempts.c.error != RUNNER_DIED, 1), else_=0)).label("deaths"),
            )
            .where(attempts.c.study_id == self.study_id)
            .group_by(attempts.c.number)
            .subquery()
        )
        with self._store.read() as connection:
            rows = connection.execute(
                select(trials, last.c.attempt, last.c.deaths)
                .join(last, last.c.number == trials.c.number)
                .where(trials.c.study_id == self.study_id, trials.c.state == "running")
                .order_by(trials.c.number)
            ).all()
        return [Attempt(r.number, r.attempt, r.params, r.source, r.started_at, r.deaths) for r in rows]

    def open_attempt(self, attempt: Attempt, log_path: str) -> None:
        """Record that an attempt starts now; its first attempt creates the trial."""
        with self._store.write() as connection:
            if attempt.attempt == 0:
                connection.execute(
                    insert(trials).values(
                        study_id=self.study_id,
                        number=attempt.number,
                        state="running",
                        source=attempt.source,
                        params=attempt.params,
                        optuna_number=attempt.number,
                        started_at=attempt.started_at,
                    )
                )
            connection.execute(
                insert(attempts).values(
                    study_id=self.study_id,
                    number=attempt.number,
                    attempt=attempt.attempt,
                    state="running",
                    log_path=log_path,
                    started_at=attempt.started_at,
                )
            )

    def lose(self, attempt: Attempt, ended: Ended) -> None:
        """Record that an attempt was lost; the trial stays open."""
        with self._store.write(durable=True) as connection:
            self._end_attempt(connection, attempt, ended, time.time())

    def close_trial(self, attempt: Attempt, ended: Ended, elapsed_s: float) -> tuple[TrialState, float | None]:
        """The trial's final state and value, committed to disk together with what tracking has to learn.

        This is the commit point of a trial: everything else follows it and can be repeated.
        """
        now = time.time()
        state = _TRIAL_STATE.get(ended.state, "failed")
        result = ended.result if state == "complete" else None
        value = result.value if result else None
        error = ended.error if state == "failed" else None
        with self._store.write(durable=True) as connection:
            cost = self._end_attempt(connection, attempt, ended, now)
            if attempt.reports:
                connection.execute(insert(reports), self._report_rows(attempt))
            connection.execute(
                update(trials)
                .where(trials.c.study_id == self.study_id, trials.c.number == attempt.number)
                .values(
                    state=state,
                    value=value,
                    std=result.std if result else None,
                    folds=(result.folds if result else [r.value for r in attempt.reports]) or None,
                    metrics=result.metrics if result else None,
                    error=error,
                    cause=ended.state if state == "failed" else None,
                    ended_at=now,
                )
            )
            self._set_elapsed(connection, elapsed_s)
            best = self._best_value(connection)
            enqueue(connection, self.projection.trial(attempt, state, ended, best=best, now=now, cost_usd=cost))
        return state, value

    def end(
        self,
        state: StudyState,
        reason: str | None,
        elapsed_s: float,
        error: str | None = None,
        *,
        ordered: Orders | None = None,
    ) -> bool:
        """Record how the study ended, or that it is paused, unless its orders are not `ordered` any more.

        Without this check an order that is given while the runner decides would be lost.
        """
        now = time.time()
        with self._store.write(durable=True) as connection:
            if ordered is not None and self._orders(connection) != ordered:
                return False
            ended_at = None if state == "paused" else now
            connection.execute(
                update(studies)
                .where(studies.c.id == self.study_id)
                .values(state=state, stop_reason=reason, ended_at=ended_at, error=error)
            )
            self._set_elapsed(connection, elapsed_s)
            if state != "paused":
                best = self._best_value(connection)
                enqueue(connection, self.projection.end(state, reason, now, best, self._sequence(connection)))
        return True

    def fail(self, why: str) -> None:
        """Record that the study cannot go on, and that nothing of it runs any more."""
        elapsed_s = self.elapsed_s()
        for attempt in self.unfinished():
            self.close_trial(attempt, Ended("", "cancelled", 0.0, error=why), elapsed_s)
        self.end("failed", "internal_error", elapsed_s, why)

    def tick(self, elapsed_s: float) -> None:
        """Record the running time so far, for the case that nothing else is written for a while."""
        with self._store.write() as connection:
            self._set_elapsed(connection, elapsed_s)

    def elapsed_s(self) -> float:
        """Running seconds of the study, over all runners it had."""
        with self._store.read() as connection:
            return float(connection.scalar(select(studies.c.elapsed_s).where(studies.c.id == self.study_id)) or 0.0)

    def tally(self) -> Tally:
        """Counts and costs so far."""
        with self._store.read() as connection:
            rows = connection.execute(
                select(
                    case((trials.c.cause == CANCELLED, CANCELLED), else_=trials.c.state).label("ended"), func.count()
                )
                .where(trials.c.study_id == self.study_id)
                .group_by("ended")
            ).all()
            costs = connection.scalars(
                select(attempts.c.cost_usd)
                .where(attempts.c.study_id == self.study_id, attempts.c.state != "running")
                .order_by(attempts.c.cost_usd)
            ).all()
        return Tally(Counter({state: count for state, count in rows}), list(costs))  # noqa: C416 - rows are no pairs

    def pending_commands(self) -> list[Command]:
        """Requests nobody has carried out yet, oldest first."""
        with self._store.read() as connection:
            rows = connection.execute(
                select(commands)
                .where(commands.c.study_id == self.study_id, commands.c.done_at.is_(None))
                .order_by(commands.c.id)
            ).all()
        return [Command(row.id, row.action, row.arguments) for row in rows]

    def last_error(self) -> str | None:
        """Why the latest failed trial failed."""
        with self._store.read() as connection:
            return connection.scalar(
                select(trials.c.error)
                .where(trials.c.study_id == self.study_id, trials.c.state == "failed")
                .order_by(trials.c.ended_at.desc())
                .limit(1)
            )

    def refuse_command(self, command: Command, why: str) -> None:
        """Record that a command cannot be carried out."""
        with self._store.write() as connection:
            connection.execute(
                update(commands).where(commands.c.id == command.id).values(done_at=time.time(), error=why)
            )

    def count_sealed_read(self, number: int) -> int:
        """The id of a new entry: trial `number` is about to be scored on the sealed rows."""
        with self._store.write(durable=True) as connection:
            dataset = connection.scalar(select(studies.c.dataset).where(studies.c.id == self.study_id)) or {}
            done = connection.execute(
                insert(sealed_reads).values(
                    study_id=self.study_id, digest=dataset.get("digest", ""), number=number, at=time.time()
                )
            )
            return int(cast("tuple[int]", done.inserted_primary_key)[0])

    def finish_command(self, command: Command, read_id: int, ended: Ended) -> None:
        """Record the outcome of a final test."""
        result = ended.result
        with self._store.write(durable=True) as connection:
            connection.execute(
                update(commands)
                .where(commands.c.id == command.id)
                .values(done_at=time.time(), error=None if result else ended.error or ended.state)
            )
            if result:
                low, high = result.metrics.get("low"), result.metrics.get("high")
                connection.execute(
                    update(sealed_reads)
                    .where(sealed_reads.c.id == read_id)
                    .values(value=result.value, low=low, high=high)
                )

    def best(self) -> tuple[int, Params] | None:
        """Number and parameters of the best complete trial."""
        with self._store.read() as connection:
            row = connection.execute(best_first(self.study_id, self.definition.direction).limit(1)).one_or_none()
        return (row.number, row.params) if row else None

    def _compared(self, reported: dict[int, float]) -> dict[int, float]:
        """What the pruner compared when these values came in: of folds, perhaps their mean so far."""
        if not self.definition.table:
            return reported
        ordered = [reported[step] for step in sorted(reported)]
        seen = self.definition.spec.pruner.seen
        return {step: seen(reported[step], fmean(ordered[: i + 1])) for i, step in enumerate(sorted(reported))}

    def _report_rows(self, attempt: Attempt) -> list[JsonObject]:
        key: JsonObject = {"study_id": self.study_id, "number": attempt.number, "attempt": attempt.attempt}
        steps = {report.step: report for report in attempt.reports}  # the last report of a step counts
        return [{**key, **report._asdict()} for report in steps.values()]

    def _best_value(self, connection: Connection) -> float | None:
        extreme = func.max if self.definition.direction == "maximize" else func.min
        return connection.scalar(
            select(extreme(trials.c.value)).where(trials.c.study_id == self.study_id, trials.c.state == "complete")
        )

    def _orders(self, connection: Connection) -> Orders:
        wanted = (studies.c.desired, studies.c.state, studies.c.n_trials, studies.c.timeout_s)
        return Orders(*connection.execute(select(*wanted).where(studies.c.id == self.study_id)).one())

    def _sequence(self, connection: Connection) -> int:
        """How often the study has ended before: a study that goes on ends again."""
        ends = (outbox.c.study_id == self.study_id) & (outbox.c.kind == "study_end")
        return connection.scalar(select(func.count()).select_from(outbox).where(ends)) or 0

    def _set_elapsed(self, connection: Connection, elapsed_s: float) -> None:
        connection.execute(update(studies).where(studies.c.id == self.study_id).values(elapsed_s=elapsed_s))

    def _end_attempt(self, connection: Connection, attempt: Attempt, ended: Ended, now: float) -> float:
        cost = ended.seconds * self.usd_per_second
        connection.execute(
            update(attempts)
            .where(
                attempts.c.study_id == self.study_id,
                attempts.c.number == attempt.number,
                attempts.c.attempt == attempt.attempt,
                attempts.c.state == "running",  # what a lost attempt took stays on record
            )
            .values(
                state=ended.state,
                error=ended.error,
                ended_at=now,
                seconds=ended.seconds,
                cpu_seconds=ended.cpu_seconds,
                cost_usd=cost,
            )
        )
        return cost


def mark_failed(store: Store, study_id: str, why: str) -> None:
    """End a study of which nothing but its row can be used."""
    with store.write(durable=True) as connection:
        connection.execute(
            update(studies)
            .where(studies.c.id == study_id)
            .values(state="failed", stop_reason="internal_error", error=why, ended_at=time.time())
        )
