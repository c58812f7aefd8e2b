"""The tracker: the one process of a workspace that writes to MLflow, started when something waits."""

import random
import time

from sqlalchemy import exists, select

from mcp_server.errors import WorkspaceError
from mcp_server.processes import spawn_detached
from mcp_server.settings import PREFIX, Settings
from mcp_server.store import KernelLock, Store, schema
from mcp_server.tracking import outbox
from mcp_server.tracking.drain import Drain, note_failure
from mcp_server.tracking.mlflow import MlflowTracker
from mcp_server.tracking.target import tracking_target

POLL_S = 0.5
IDLE_S = 15.0
QUIET_S = 600.0
DATABASE_VARIABLE = f"{PREFIX}DATABASE_URL"
GIVE_UP_S = 600.0
MIN_DELAY_S, MAX_DELAY_S = 1.0, 60.0
ACTIVE_STATES = ("queued", "running")


def tracker_lock(settings: Settings) -> KernelLock:
    """The lock that the workspace's tracker holds for as long as it lives."""
    return KernelLock(settings.workspace / "tracker.lock")


def ensure_tracker(store: Store, settings: Settings) -> None:
    """Start the workspace's tracker if something waits for it and none is running; answers at once."""
    with store.read() as connection:
        if not outbox.has_pending(connection):
            return
    if not tracker_lock(settings).is_free():
        return
    arguments = ["--workspace", str(settings.workspace)]
    if settings.tracking_uri != Settings.load(workspace=settings.workspace).tracking_uri:
        arguments += ["--tracking-uri", str(settings.tracking_uri)]  # given on our own command line
    log = settings.workspace / "logs" / "tracker.log"
    database = {name: value for name, value in settings.environment().items() if name == DATABASE_VARIABLE}
    spawn_detached("mcp_server.tracking", arguments, log=log, folder=settings.workspace, environment=database)


class TrackerLoop:
    """Drains the outbox until nothing waits and no study runs (or none has moved for long).

    The caller holds `tracker_lock`.
    """

    def __init__(self, store: Store, settings: Settings, *, idle_s: float = IDLE_S) -> None:
        self._store = store
        self._settings = settings
        self._idle_s = idle_s
        self._drain: Drain | None = None
        self._refusals = 0
        self._moved_at = self._answered_at = time.monotonic()

    def run(self) -> None:
        """Return when the work is done, the workspace is gone, or the store has not answered for long."""
        while self._store.present and not self._is_over():
            try:
                moved = self._connected().run_batch()
            except WorkspaceError as exc:
                self._postpone(exc)
                continue
            self._refusals, self._answered_at = 0, time.monotonic()
            if moved:
                self._moved_at = self._answered_at
            else:
                time.sleep(POLL_S)

    def _connected(self) -> Drain:
        if self._drain is None:
            self._drain = Drain(self._store, MlflowTracker(tracking_target(self._settings)))
        return self._drain

    def _postpone(self, exc: WorkspaceError) -> None:
        with self._store.write() as connection:
            note_failure(connection, str(exc))
        # Full jitter keeps the trackers of many workspaces from hitting a recovering server in step.
        # Source: https://aws.amazon.com/blogs/architecture/exponential-backoff-and-jitter/
        longest = min(MAX_DELAY_S, MIN_DELAY_S * 2.0**self._refusals)
        self._refusals += 1
        time.sleep(random.uniform(MIN_DELAY_S, max(longest, MIN_DELAY_S)))  # noqa: S311 - no secret depends on it

    def _is_over(self) -> bool:
        now = time.monotonic()
        with self._store.read() as connection:
            pending = outbox.has_pending(connection)
            studies = schema.studies
            active = connection.execute(select(exists().where(studies.c.state.in_(ACTIVE_STATES)))).scalar()
        if pending and now - self._answered_at < GIVE_UP_S:
            self._moved_at = now
        # A study whose runner is dead and not revived stays running: it may not keep this process for ever.
        return now - self._moved_at > (QUIET_S if active else self._idle_s)
