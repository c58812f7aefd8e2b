"""A runner that waits for the workspace database, for everybody to see: while it waits, and on record afterwards."""

import json
import os
import time
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import structlog
from sqlalchemy import exists, select
from sqlalchemy.exc import IntegrityError

from mcp_server.errors import BackendUnavailableError
from mcp_server.store import DISK_FULL, Reserve, Store
from mcp_server.store.schema import studies
from mcp_server.studies import events
from mcp_server.studies.placement import WAITING_NOTE, runner_lock, study_folder
from mcp_server.types import JsonObject

NOTE_BYTES = 512
UNREMARKABLE_S = 2.0  # for which writers of one database wait for each other every now and then

log = structlog.get_logger()


@dataclass(frozen=True)
class Waiting:
    """What a runner waits for, and since when in Unix seconds."""

    reason: str
    since: float

    def __str__(self) -> str:
        since = datetime.fromtimestamp(self.since, UTC).strftime("%Y-%m-%d %H:%M:%S UTC")
        return f"{self.reason} since {since}"


class RunnerWaits:
    """Says in the study's folder that its runner waits, and in its events how long that took.

    The note has its room on the disk from the beginning, and the room of the workspace's reserve is given to orders
    and to other files as soon as the disk is full. The study goes on when there is room for a reserve again.
    """

    def __init__(self, store: Store, study_id: str) -> None:
        self._store = store
        self._study_id = study_id
        self._reserve = Reserve(store.folder)
        self._note = _note(store.folder, study_id)
        self._first: Waiting | None = None
        self._noted: Waiting | None = None
        self._full = False

    def begin(self) -> None:
        """Set room aside, and say that nothing is waited for."""
        self._reserve.keep()
        self._write("")

    def away(self, reason: str) -> None:
        """Say what is waited for, unless it is but the turn of another writer."""
        self._full = reason == DISK_FULL
        if self._full:
            self._reserve.free()
        self._first = self._first or Waiting(reason, time.time())
        if self._full or time.time() - self._first.since >= UNREMARKABLE_S:
            self._noted = Waiting(reason, self._first.since)
            self._write(json.dumps({"reason": reason, "since": self._first.since}))

    def may_try(self) -> bool:
        """Whether there is room for more than what is in hand, if the disk was full."""
        return not self._full or self._reserve.keep()

    def back(self) -> None:
        """Record the waiting as events, and that it is over."""
        noted, self._noted, self._first, self._full = self._noted, None, None, False
        if noted is None:
            return
        self._write("")
        seconds = round(time.time() - noted.since, 1)
        try:
            with self._store.write() as connection:
                if connection.scalar(select(exists().where(studies.c.id == self._study_id))):
                    waited: JsonObject = {"for": noted.reason}
                    events.record(connection, self._study_id, "waiting", at=noted.since, detail=waited)
                    ended: JsonObject = {"after": noted.reason, "seconds": seconds}
                    events.record(connection, self._study_id, "resumed", detail=ended)
        except (BackendUnavailableError, IntegrityError) as exc:  # the waiting is in the log, too
            log.warning("could not record that the study waited", reason=noted.reason, error=str(exc))

    def _write(self, text: str) -> None:
        # In place, for which no disk is too full; who reads half of it takes it for nothing.
        try:
            self._note.parent.mkdir(parents=True, exist_ok=True)
            file = os.open(self._note, os.O_WRONLY | os.O_CREAT, 0o600)
            try:
                os.write(file, text.encode().ljust(NOTE_BYTES))
            finally:
                os.close(file)
        except OSError as exc:
            log.warning("could not say what the study waits for", error=str(exc))


def waiting_of(workspace: Path, study_id: str) -> Waiting | None:
    """What the study's runner waits for to reach the database; None when it does not wait, or does not live."""
    with suppress(OSError, ValueError, KeyError, TypeError):
        found = json.loads(_note(workspace, study_id).read_text(encoding="utf-8").strip() or "null")
        if found is not None and not runner_lock(workspace, study_id).is_free():
            return Waiting(str(found["reason"]), float(found["since"]))
    return None


def _note(workspace: Path, study_id: str) -> Path:
    return study_folder(workspace, study_id) / WAITING_NOTE
