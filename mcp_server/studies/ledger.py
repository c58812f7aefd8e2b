"""One study's rows, as its runner writes them. Each method is one transaction."""

import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, cast

from sqlalchemy import ColumnElement, Connection, Row, exists, func, insert, select, update

from mcp_server.execution import Ended
from mcp_server.settings import Settings
from mcp_server.store import Resource, Store, insistent
from mcp_server.store.schema import commands, outbox, sealed_reads, spaces, studies
from mcp_server.studies import events
from mcp_server.studies.announcing import announce_end
from mcp_server.studies.costs import cost_of, spent_this_month
from mcp_server.studies.orders import FINAL_TEST, STOP_TRIAL
from mcp_server.studies.projection import Attempt, Projection
from mcp_server.studies.spec import StudyDefinition
from mcp_server.studies.states import move_study
from mcp_server.studies.trial_ledger import TrialLedger, set_elapsed
from mcp_server.studies.turns import Contender, contenders
from mcp_server.tracking.outbox import enqueue
from mcp_server.types import WAITS_FOR_APPROVAL, JsonObject, StudyState


@dataclass(frozen=True)
class Orders:
    """What servers and the command line want of a study right now."""

    desired: str
    state: str
    n_trials: int
    timeout_s: float | None
    parallel: int | None
    space_version: int  # of the space that trials are asked for from now on
    commands: int  # requests that wait for the runner
    approved_usd: float | None = None  # what it may cost in all without being asked for again
    contended: bool = field(default=False, compare=False)  # other studies wait for a place for a trial


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
        self._settings = settings
        self.study_id = study_id
        row = self._row()
        self.name: str = row.name
        self.definition = StudyDefinition.model_validate(row.spec)
        self.team: str | None = row.team
        labels = {"user": row.owner, **({"team": row.team} if row.team else {})}
        self.projection = Projection(settings, study_id, row.name, self.definition, labels)
        self.trials = TrialLedger(store, study_id, self.definition, self.projection)

    @insistent
    def _row(self) -> Row[Any]:
        with self._store.read() as connection:
            return connection.execute(select(studies).where(studies.c.id == self.study_id)).one()

    @insistent
    def orders(self) -> Orders:
        """The study's orders."""
        with self._store.read() as connection:
            return self._orders(connection)

    @insistent
    def waits(self) -> bool:
        """Whether the study has something to do that nobody has begun."""
        with self._store.read() as connection:
            queued = connection.scalar(select(studies.c.state).where(studies.c.id == self.study_id)) == "queued"
        return queued or bool(self.pending_commands(FINAL_TEST))

    @insistent
    def begin(self) -> None:
        """Mark the study as running and its unfinished attempts as lost; tracking learns of the study."""
        now = time.time()
        with self._store.write(durable=True) as connection:
            self.trials.lose_running(connection, now)
            row = connection.execute(select(studies).where(studies.c.id == self.study_id)).one()
            fresh = {"started_at": row.started_at or now, "ended_at": None, "stop_reason": None, "error": None}
            fresh |= {"waits_for": None, "waiting_since": None}  # of a runner that was killed
            move_study(connection, self.study_id, "running", **fresh)
            events.record(connection, self.study_id, "started", detail={"after": row.state})
            enqueue(connection, self.projection.study(row.started_at or now, row.dataset))

    @insistent
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
            at_rest = state in {"paused", WAITS_FOR_APPROVAL}
            ended_at = None if at_rest else now
            values = {"stop_reason": reason, "ended_at": ended_at, "error": error, "elapsed_s": elapsed_s}
            values |= {"waits_for": None, "waiting_since": None}
            move_study(connection, self.study_id, state, **values)
            events.record(connection, self.study_id, "ended", detail={"state": state, "reason": reason})
            _close_commands(connection, self.study_id, STOP_TRIAL)
            if not at_rest:
                best = self.trials.best_value(connection)
                cost, sequence = cost_of(connection, self.study_id), self._sequence(connection)
                record = self.projection.end(state, reason, now, best, sequence=sequence, cost_usd=cost)
                enqueue(connection, record)
                announce_end(connection, self._settings, self.study_id)
        return True

    @insistent
    def fail(self, why: str) -> None:
        """Record that the study cannot go on, and that nothing of it runs any more.

        A study that had come to rest before its runner failed stays as it is; only what was asked of it fails.
        """
        elapsed_s, state = self.elapsed_s(), self.orders().state
        for attempt in self.trials.unfinished():
            self.trials.close(attempt, Ended("", "cancelled", 0.0, error=why), elapsed_s)
        with self._store.write(durable=True) as connection:
            _close_commands(connection, self.study_id, FINAL_TEST, why)
        if state in {"queued", "running"}:
            self.end("failed", "internal_error", elapsed_s, why)

    @insistent
    def tick(self, elapsed_s: float, running: Sequence[tuple[Attempt, float]]) -> None:
        """Record the running time so far, and what each running attempt took: its runner may be killed."""
        with self._store.write() as connection:
            set_elapsed(connection, self.study_id, elapsed_s)
            for attempt, seconds in running:
                self.trials.tick(connection, attempt, seconds)

    @insistent
    def team_spent(self) -> float:
        """US dollars that all studies of the team have cost this month, but for trials of this one that run."""
        with self._store.read() as connection:
            return spent_this_month(connection, self.team, without=self.study_id)

    @insistent
    def elapsed_s(self) -> float:
        """Running seconds of the study, over all runners it had."""
        with self._store.read() as connection:
            return float(connection.scalar(select(studies.c.elapsed_s).where(studies.c.id == self.study_id)) or 0.0)

    @insistent
    def contenders(self) -> list[Contender]:
        """The studies of the workspace that run or wait for a place, the next one first."""
        with self._store.read() as connection:
            return contenders(connection)

    @insistent
    def wait_for(self, resource: Resource | None) -> None:
        """Record what the study's next trial waits for from now on, or that it does not."""
        since = None if resource is None else time.time()
        with self._store.write() as connection:
            values = {"waits_for": resource, "waiting_since": since}
            connection.execute(update(studies).where(studies.c.id == self.study_id).values(**values))

    @insistent
    def limit_reached(self, reason: str) -> None:
        """Record that no further trial may start, and why; what runs may go on for a while."""
        with self._store.write() as connection:
            events.record(connection, self.study_id, "limit_reached", detail={"reason": reason})

    @insistent
    def pending_commands(self, *actions: str) -> list[Command]:
        """Requests of these kinds that nobody has carried out yet, oldest first."""
        with self._store.read() as connection:
            rows = connection.execute(
                select(commands).where(_open(self.study_id), commands.c.action.in_(actions)).order_by(commands.c.id)
            ).all()
        return [Command(row.id, row.action, row.arguments) for row in rows]

    @insistent
    def close_command(self, command: Command, *, error: str | None = None) -> None:
        """Record that a command is carried out, or why it cannot be."""
        with self._store.write() as connection:
            _close_command(connection, command.id, error=error)

    @insistent
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

    @insistent
    def finish_command(self, command: Command, read_id: int, ended: Ended) -> None:
        """Record the outcome of a final test."""
        result = ended.result
        with self._store.write(durable=True) as connection:
            _close_command(connection, command.id, error=None if result else ended.error or ended.state)
            if result:
                low, high = result.metrics.get("low"), result.metrics.get("high")
                connection.execute(
                    update(sealed_reads)
                    .where(sealed_reads.c.id == read_id)
                    .values(value=result.value, low=low, high=high)
                )

    def _orders(self, connection: Connection) -> Orders:
        version = select(func.max(spaces.c.version)).where(spaces.c.study_id == self.study_id).scalar_subquery()
        waiting = select(func.count()).select_from(commands).where(_open(self.study_id)).scalar_subquery()
        own = (studies.c.desired, studies.c.state, studies.c.n_trials, studies.c.timeout_s)
        others = studies.alias()
        contended = exists().where(others.c.waits_for.is_not(None), others.c.id != self.study_id)
        more = (studies.c.parallel, func.coalesce(version, 1), waiting, studies.c.approved_usd, contended)
        return Orders(*connection.execute(select(*own, *more).where(studies.c.id == self.study_id)).one())

    def _sequence(self, connection: Connection) -> int:
        """How often the study has ended before: a study that goes on ends again."""
        ends = (outbox.c.study_id == self.study_id) & (outbox.c.kind == "study_end")
        return connection.scalar(select(func.count()).select_from(outbox).where(ends)) or 0


def mark_failed(store: Store, settings: Settings, study_id: str, why: str) -> None:
    """End a study of which nothing but its row can be used."""
    with store.write(durable=True) as connection:
        _close_commands(connection, study_id, FINAL_TEST, why)
        if connection.scalar(select(studies.c.state).where(studies.c.id == study_id)) in {"queued", "running"}:
            values = {"stop_reason": "internal_error", "error": why, "ended_at": time.time()}
            move_study(connection, study_id, "failed", **values)
            events.record(connection, study_id, "ended", detail={"state": "failed", "reason": "internal_error"})
            announce_end(connection, settings, study_id)


def _close_command(connection: Connection, command_id: int, *, error: str | None = None) -> None:
    connection.execute(update(commands).where(commands.c.id == command_id).values(done_at=time.time(), error=error))


def _close_commands(connection: Connection, study_id: str, action: str, error: str | None = None) -> None:
    mine = _open(study_id) & (commands.c.action == action)
    connection.execute(update(commands).where(mine).values(done_at=time.time(), error=error))


def _open(study_id: str) -> ColumnElement[bool]:
    return (commands.c.study_id == study_id) & commands.c.done_at.is_(None)
