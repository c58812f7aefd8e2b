"""Emptying the outbox: every record becomes exactly one run, whatever dies in between."""

import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Literal, NamedTuple

import structlog
from pydantic import ValidationError
from sqlalchemy import Connection, bindparam, func, select, update

from mcp_server.errors import BackendUnavailableError, WorkspaceError
from mcp_server.store import Store, schema
from mcp_server.tracking import outbox, projection
from mcp_server.tracking._base import Point, RunContent, Tracker
from mcp_server.tracking.outbox import OPEN_STATES, has_pending
from mcp_server.tracking.records import (
    StudyDeletionRecord,
    StudyEndRecord,
    StudyRecord,
    TrialRecord,
    parse_record,
    study_key,
)
from mcp_server.types import JsonObject

_log = structlog.get_logger(__name__)

BATCH = 50
MAX_FAILURES = 5
TIDY_EVERY = 500


class Row(NamedTuple):
    """An outbox row that this process has claimed."""

    id: int
    study_id: str
    payload: JsonObject
    run_id: str | None
    attempted: bool  # an earlier claim may have made the run without storing its id
    failures: int


@dataclass(slots=True)
class Outcome:
    """What became of a row."""

    row: Row
    state: Literal["creating", "done", "refused"] = "creating"
    run_id: str | None = None
    error: str | None = None
    failures: int = 0


@dataclass(frozen=True, slots=True)
class Parent:
    """The run of a study; without an id the store refused it, and trials stand alone."""

    experiment: str
    run_id: str | None


@dataclass(slots=True)
class _Batch:
    outcomes: list[Outcome] = field(default_factory=list)
    series: dict[str, list[Point]] = field(default_factory=dict)
    resumed: set[str] = field(default_factory=set)  # runs of studies that go on after an end


class Drain:
    """Writes the outbox into a tracking store, in order.

    A row goes from queued to creating before the store hears of it and to done after the store has all of it. Only a
    row that was found in creating without a run id can have a run already: it is looked up by its unique tag.
    """

    def __init__(self, store: Store, tracker: Tracker, *, batch: int = BATCH) -> None:
        self._store = store
        self._tracker = tracker
        self._size = batch
        self._parents: dict[str, Parent] = {}
        self._going_on: set[str] = set()  # studies whose run is known to be open
        self._since_tidy = 0

    def run_batch(self) -> int:
        """The number of rows that are done with now; 0 when nothing waits.

        Raises:
            BackendUnavailableError: If the store, or one row, has to be tried again later; what was written is kept.
        """
        with self._store.read() as connection:
            if not has_pending(connection):  # an idle tracker must not take the write lock twice a second
                return 0
        with self._store.write() as connection:
            rows = _claim(connection, self._size)
        batch = _Batch()
        try:
            self._settle_all(rows, batch)
        except BackendUnavailableError:
            self._save(batch)
            raise
        self._save(batch)
        self._tidy(len(rows))
        if late := next((outcome for outcome in batch.outcomes if outcome.state == "creating"), None):
            raise BackendUnavailableError(late.error or "A record has to wait.")
        return len(rows)

    def _save(self, batch: _Batch) -> None:
        with self._store.write() as connection:
            _save(connection, batch.outcomes)

    def _settle_all(self, rows: Sequence[Row], batch: _Batch) -> None:
        try:
            for row in rows:
                self._settle(row, batch)
            self._flush(batch)
        except BackendUnavailableError as exc:
            batch.outcomes[-1].error = str(exc)
            raise
        for outcome in batch.outcomes:
            if outcome.state == "creating" and outcome.error is None:
                outcome.state = "done"

    def _settle(self, row: Row, batch: _Batch) -> None:
        outcome = Outcome(row, run_id=row.run_id, failures=row.failures)
        batch.outcomes.append(outcome)
        try:
            self._project(row, outcome, batch)
        except BackendUnavailableError as exc:
            self._tracker.check()  # raises when the whole store is down; else this row is at fault
            outcome.error = str(exc)
            outcome.failures += 1
            if outcome.failures >= MAX_FAILURES:
                outcome.state = "refused"
        except WorkspaceError as exc:
            outcome.state, outcome.error = "refused", str(exc)
        except ValidationError as exc:
            outcome.state, outcome.error = "refused", f"The record cannot be read: {exc.errors()[0]['msg']}."

    def _project(self, row: Row, outcome: Outcome, batch: _Batch) -> None:
        match parse_record(row.payload):
            case StudyRecord() as record:
                self._write(row, outcome, projection.study_run(record))
                self._parents[row.study_id] = Parent(record.experiment, outcome.run_id)
            case TrialRecord() as record:
                self._project_trial(record, row, outcome, batch)
            case StudyEndRecord() as record:
                self._flush(batch)
                self._end_study(record)
            case StudyDeletionRecord() as record:
                self._flush(batch)
                self._delete_study(record)

    def _project_trial(self, record: TrialRecord, row: Row, outcome: Outcome, batch: _Batch) -> None:
        parent = self._parent(record)
        self._write(
            row, outcome, projection.trial_run(record, experiment=parent.experiment, parent_run_id=parent.run_id)
        )
        if parent.run_id is not None:
            batch.series.setdefault(parent.run_id, []).extend(projection.parent_points(record))
            if row.study_id not in self._going_on and self._follows_end(row):
                batch.resumed.add(parent.run_id)
            self._going_on.add(row.study_id)

    def _follows_end(self, row: Row) -> bool:
        """Whether the study had ended before this row, and has not ended since."""
        ends = (schema.outbox.c.study_id == row.study_id) & (schema.outbox.c.kind == "study_end")
        with self._store.read() as connection:
            last = connection.execute(select(func.max(schema.outbox.c.id)).where(ends)).scalar()
        return last is not None and last < row.id

    def _write(self, row: Row, outcome: Outcome, content: RunContent) -> None:
        if outcome.run_id is None and row.attempted:
            outcome.run_id = self._tracker.find_run(content)
        if outcome.run_id is None:
            outcome.run_id = self._tracker.create_run(content)
        self._tracker.write(outcome.run_id, content)

    def _end_study(self, record: StudyEndRecord) -> None:
        self._going_on.discard(record.study_id)
        if (run_id := self._parent(record).run_id) is None:
            return
        status, points, tags = projection.study_end(record)
        self._tracker.add(run_id, points, tags)
        self._tracker.end(run_id, status, round(record.ended_at * 1_000))
        self._since_tidy += TIDY_EVERY

    def _delete_study(self, record: StudyDeletionRecord) -> None:
        self._tracker.delete(record.experiment, record.study_id)
        with self._store.write() as connection:
            outbox.forget(connection, record.study_id, record.key)
        self._parents.pop(record.study_id, None)
        self._going_on.discard(record.study_id)

    def _parent(self, record: TrialRecord | StudyEndRecord) -> Parent:
        if record.study_id not in self._parents:
            self._parents[record.study_id] = self._looked_up_parent(record)
        return self._parents[record.study_id]

    def _looked_up_parent(self, record: TrialRecord | StudyEndRecord) -> Parent:
        # By its tag and not by the stored id: the MLflow database may have been deleted since.
        with self._store.read() as connection:
            payload = connection.execute(
                select(schema.outbox.c.payload).where(schema.outbox.c.key == study_key(record.study_id))
            ).scalar()
        try:
            study = parse_record(payload or {})
        except ValidationError:
            return Parent(record.study_name, None)
        assert isinstance(study, StudyRecord)  # noqa: S101 - the key of a study holds nothing else
        content = projection.study_run(study)
        try:
            return Parent(study.experiment, self._found_or_made(content))
        except BackendUnavailableError:
            raise
        except WorkspaceError:
            return Parent(study.experiment, None)

    def _found_or_made(self, content: RunContent) -> str:
        if (run_id := self._tracker.find_run(content)) is None:
            run_id = self._tracker.create_run(content)
            self._tracker.write(run_id, content)
        return run_id

    def _flush(self, batch: _Batch) -> None:
        while batch.series:
            run_id = next(iter(batch.series))
            try:
                if run_id in batch.resumed:
                    self._tracker.reopen(run_id)
                tags = {projection.STATE_TAG: "running"} if run_id in batch.resumed else {}
                self._tracker.add(run_id, batch.series[run_id], tags)
            except BackendUnavailableError:
                raise
            except WorkspaceError as exc:
                # The trials have their own runs, so a study run that somebody deleted must not hold them up.
                _log.warning("study_series_refused", run_id=run_id, error=str(exc))
            del batch.series[run_id]
            batch.resumed.discard(run_id)

    def _tidy(self, written: int) -> None:
        self._since_tidy += written
        if self._since_tidy >= TIDY_EVERY:
            self._tracker.tidy()
            self._since_tidy = 0


def note_failure(connection: Connection, error: str) -> None:
    """Tell by the oldest waiting row why nothing moves."""
    oldest = select(func.min(schema.outbox.c.id)).where(schema.outbox.c.state.in_(OPEN_STATES)).scalar_subquery()
    connection.execute(update(schema.outbox).where(schema.outbox.c.id == oldest).values(error=error))


def _claim(connection: Connection, size: int) -> list[Row]:
    table = schema.outbox
    found = connection.execute(select(table).where(table.c.state.in_(OPEN_STATES)).order_by(table.c.id).limit(size))
    rows = [Row(row.id, row.study_id, row.payload, row.run_id, row.state == "creating", row.failures) for row in found]
    fresh = [row.id for row in rows if not row.attempted]
    if fresh:
        connection.execute(update(table).where(table.c.id.in_(fresh)).values(state="creating"))
    return rows


def _save(connection: Connection, outcomes: Sequence[Outcome]) -> None:
    if not outcomes:
        return
    table = schema.outbox
    connection.execute(
        update(table).where(table.c.id == bindparam("row_id")),
        [
            {
                "row_id": outcome.row.id,
                "state": outcome.state,
                "run_id": outcome.run_id,
                "error": outcome.error,
                "failures": outcome.failures,
                "done_at": time.time() if outcome.state == "done" else None,
            }
            for outcome in outcomes
        ],
    )
