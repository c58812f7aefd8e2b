"""The notifier: a small process that delivers what is owed and ends when nothing is."""

import random
import time
from pathlib import Path

import structlog
from pydantic import ValidationError

from mcp_server.errors import BackendUnavailableError
from mcp_server.notifications import queue
from mcp_server.notifications.channels import Sender, senders
from mcp_server.notifications.message import Channel, StudyEnded
from mcp_server.notifications.queue import Owed
from mcp_server.processes import spawn_detached
from mcp_server.settings import Settings
from mcp_server.store import KernelLock, Store

POLL_S = 0.5
FIRST_DELAY_S, LONGEST_DELAY_S = 1.0, 300.0

log = structlog.get_logger()


def notifier_lock(workspace: Path) -> KernelLock:
    """The lock that the workspace's notifier holds for as long as it lives."""
    return KernelLock(workspace / "notifier.lock")


def ensure_notifier(store: Store, settings: Settings) -> None:
    """Start the workspace's notifier if something is owed and none is running; answers at once."""
    with store.read() as connection:
        if not queue.has_owed(connection):
            return
    if notifier_lock(settings.workspace).is_free():
        spawn_detached(
            "mcp_server.notifications",
            ["--workspace", str(settings.workspace)],
            log=settings.workspace / "logs" / "notifier.log",
            folder=settings.workspace,
            environment=settings.environment(),
        )


class NotifierLoop:
    """Delivers what is owed, each notification at its own pace, so that one receiver does not hold up another.

    The caller holds `notifier_lock`. A notification is marked as delivered after it was: a death in between delivers
    it again, under the same id.
    """

    def __init__(self, store: Store, settings: Settings, *, first_delay_s: float = FIRST_DELAY_S) -> None:
        self._store = store
        self._senders: dict[Channel, Sender] = senders(settings)
        self._first_delay_s = first_delay_s
        self._not_before: dict[str, float] = {}

    def run(self) -> None:
        """Return when nothing is owed any more, or the workspace is gone."""
        while self._store.present:
            with self._store.read() as connection:
                waiting = queue.owed(connection)
            if not waiting:
                return
            due = [owed for owed in waiting if self._not_before.get(owed.id, 0.0) <= time.monotonic()]
            for owed in due:
                self._deliver(owed)
            if not due:
                soonest = min(self._not_before[owed.id] for owed in waiting)
                time.sleep(min(POLL_S, max(0.0, soonest - time.monotonic())))

    def _deliver(self, owed: Owed) -> None:
        try:
            self._sender(owed.channel).send(StudyEnded.model_validate(owed.payload))
        except (BackendUnavailableError, ValidationError) as exc:
            error = str(exc) if isinstance(exc, BackendUnavailableError) else "It was written by another version."
            log.warning("a notification was not received", channel=owed.channel, tries=owed.tries + 1, error=error)
            self._postpone(owed)
            with self._store.write() as connection:
                queue.failed(connection, owed.id, owed.tries + 1, error)
            return
        with self._store.write() as connection:
            queue.delivered(connection, owed.id)

    def _sender(self, channel: Channel) -> Sender:
        if channel not in self._senders:
            raise BackendUnavailableError(f"notify_{channel} is not configured any more.")
        return self._senders[channel]

    def _postpone(self, owed: Owed) -> None:
        # Source: https://aws.amazon.com/blogs/architecture/exponential-backoff-and-jitter/
        longest = min(LONGEST_DELAY_S, self._first_delay_s * 2.0**owed.tries)
        delay = random.uniform(longest / 2, longest)  # noqa: S311 - no secret depends on it
        self._not_before[owed.id] = time.monotonic() + delay
