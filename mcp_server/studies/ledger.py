"""One study's rows, as its runner writes them. Each method is one transaction."""

import time
from dataclasses import dataclass
from typing import cast

from sqlalchemy import Connection, func, insert, select, update

from mcp_server.execution import Ended
from mcp_server.settings import Settings
from mcp_server.store import Store
from mcp_server.store.schema import attempts, commands, outbox, sealed_reads, studies
from mcp_server.studies.projection import Projection
from mcp_server.studies.spec import StudyDefinition
from mcp_server.studies.trial_ledger import RUNNER_DIED, TrialLedger, set_elapsed
from mcp_server.tracking.outbox import enqueue
from mcp_server.types import JsonObject, StudyState


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
        self.trials = TrialLedger(store, study_id, self.definition, self.projection)

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
            set_elapsed(connection, self.study_id, elapsed_s)
            if state != "paused":
                best = self.trials.best_value(connection)
                enqueue(connection, self.projection.end(state, reason, now, best, self._sequence(connection)))
        return True

    def fail(self, why: str) -> None:
        """Record that the study cannot go on, and that nothing of it runs any more."""
        elapsed_s = self.elapsed_s()
        for attempt in self.trials.unfinished():
            self.trials.close(attempt, Ended("", "cancelled", 0.0, error=why), elapsed_s)
        self.end("failed", "internal_error", elapsed_s, why)

    def tick(self, elapsed_s: float) -> None:
        """Record the running time so far, for the case that nothing else is written for a while."""
        with self._store.write() as connection:
            set_elapsed(connection, self.study_id, elapsed_s)

    def elapsed_s(self) -> float:
        """Running seconds of the study, over all runners it had."""
        with self._store.read() as connection:
            return float(connection.scalar(select(studies.c.elapsed_s).where(studies.c.id == self.study_id)) or 0.0)

    def pending_commands(self) -> list[Command]:
        """Requests nobody has carried out yet, oldest first."""
        with self._store.read() as connection:
            rows = connection.execute(
                select(commands)
                .where(commands.c.study_id == self.study_id, commands.c.done_at.is_(None))
                .order_by(commands.c.id)
            ).all()
        return [Command(row.id, row.action, row.arguments) for row in rows]

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

    def _orders(self, connection: Connection) -> Orders:
        wanted = (studies.c.desired, studies.c.state, studies.c.n_trials, studies.c.timeout_s)
        return Orders(*connection.execute(select(*wanted).where(studies.c.id == self.study_id)).one())

    def _sequence(self, connection: Connection) -> int:
        """How often the study has ended before: a study that goes on ends again."""
        ends = (outbox.c.study_id == self.study_id) & (outbox.c.kind == "study_end")
        return connection.scalar(select(func.count()).select_from(outbox).where(ends)) or 0


def mark_failed(store: Store, study_id: str, why: str) -> None:
    """End a study of which nothing but its row can be used."""
    with store.write(durable=True) as connection:
        connection.execute(
            update(studies)
            .where(studies.c.id == study_id)
            .values(state="failed", stop_reason="internal_error", error=why, ended_at=time.time())
        )
