"""The composition root: everything a caller can reach hangs off a Workspace."""

import threading
from collections.abc import Callable
from functools import partial
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Self

import structlog

from mcp_server import logs
from mcp_server.access.audit import Audit
from mcp_server.disks import network_disk
from mcp_server.errors import InvalidRequestError
from mcp_server.metrics import Metrics
from mcp_server.settings import Settings
from mcp_server.tracking.target import tracking_target

if TYPE_CHECKING:
    from mcp_server.data.profile import DatasetProfile
    from mcp_server.data.spec import Encoding, Separator
    from mcp_server.store import Store
    from mcp_server.studies.analyst import Analyst
    from mcp_server.studies.costs import CostReader
    from mcp_server.studies.queue import QueueReader
    from mcp_server.studies.service import Studies
    from mcp_server.tracking.runs import Runs

FIRST_LOOK_S = 2.0
REVIVE_EVERY_S = 1.0

log = structlog.get_logger()


class Workspace:
    """One folder with its studies, runs and models, for tools, the command line and Python callers alike.

    Safe to share between threads. The stores are opened on first use, so that a server answers `initialize` before
    anything heavy is imported. `launch(folder, study id)` starts a study's runner; by default as a detached process.

    Raises:
        InvalidRequestError: If the settings name no usable tracking store, or the folder lies on a network disk.

    >>> import tempfile
    >>> with Workspace(Settings(workspace=Path(tempfile.mkdtemp()))) as workspace:
    ...     workspace.studies.read.page().total
    0
    """

    def __init__(self, settings: Settings, *, launch: Callable[[Path, str], object] | None = None) -> None:
        if not structlog.is_configured():
            logs.configure("warning")  # a library caller's stdout is not ours either
        _require_local_disk(settings.workspace)
        tracking_target(settings)  # a store that cannot be used is said at the start, not in every answer
        self.settings = settings
        self._launch = launch
        self.metrics = Metrics()
        self.audit = Audit(settings.workspace)
        self._opening = threading.RLock()
        self._store: Store | None = None
        self._analyst: Analyst | None = None
        self._studies: Studies | None = None
        self._runs: Runs | None = None
        self._closing = threading.Event()
        self._keeper: threading.Thread | None = None

    @property
    def store(self) -> "Store":
        """The workspace database."""
        with self._opening:
            if self._store is None:
                from mcp_server.store import open_store

                self._store = open_store(self.settings)
            return self._store

    @property
    def studies(self) -> "Studies":
        """Hyperparameter studies."""
        with self._opening:
            if self._studies is None:
                from mcp_server.studies.placement import spawn_runner
                from mcp_server.studies.service import Studies

                launch = self._launch or partial(spawn_runner, environment=self.settings.environment())
                self._studies = Studies(self.store, self.settings, self._tables, self.runs.backend, launch=launch)
            return self._studies

    @property
    def costs(self) -> "CostReader":
        """Who spent what."""
        from mcp_server.studies.costs import CostReader

        return CostReader(self.store, self.settings)

    @property
    def queue(self) -> "QueueReader":
        """What runs and what waits."""
        from mcp_server.studies.queue import QueueReader

        return QueueReader(self.store, self.settings)

    @property
    def runs(self) -> "Runs":
        """The tracking store's runs, to search and read."""
        with self._opening:
            if self._runs is None:
                from mcp_server.tracking.runs import Runs

                self._runs = Runs(self.settings)
            return self._runs

    def inspect(
        self,
        data: str,
        target: str | None = None,
        *,
        encoding: "Encoding | None" = None,
        separator: "Separator | None" = None,
    ) -> "DatasetProfile":
        """What is in a table, in plain sentences.

        Raises:
            DataError: If it cannot be read as a table, or lies outside the data folders.
        """
        return self._tables.inspect(data, target, encoding, separator)

    @property
    def _tables(self) -> "Analyst":
        with self._opening:
            if self._analyst is None:
                from mcp_server.studies.analyst import Analyst

                self._analyst = Analyst(self.settings.workspace, self.settings.data_roots)
            return self._analyst

    def expect_questions(self) -> None:
        """Have a server's answers about runs at hand soon; a workspace that serves nobody does nothing."""
        if self._keeper is not None:
            self.runs.warm_up()

    def keep_alive(self) -> None:
        """From now on, start runners, the tracker and the notifier wherever work waits and nobody does it."""
        if self._keeper is None:
            self._keeper = threading.Thread(target=self._keep, name="keeper", daemon=True)
            self._keeper.start()

    def _keep(self) -> None:
        # The first look comes late: importing the stores must not compete with the answer to `initialize`.
        pause = FIRST_LOOK_S
        while not self._closing.wait(pause):
            pause = REVIVE_EVERY_S
            if not self._used():
                continue
            from mcp_server.errors import WorkspaceError
            from mcp_server.notifications.notifier import ensure_notifier
            from mcp_server.tracking.tracker import ensure_tracker

            jobs: list[Callable[[], object]] = [
                self.studies.revive,
                partial(ensure_tracker, self.store, self.settings),
                partial(ensure_notifier, self.store, self.settings),
            ]
            for job in jobs:
                try:
                    job()
                except (WorkspaceError, OSError) as exc:
                    log.warning("could not look after the workspace", error=str(exc))

    def _used(self) -> bool:
        """Whether there may be work; a server that nobody has asked for anything does not load the stores to know."""
        return self.settings.database_url is not None or (self.settings.workspace / "workspace.db").exists()

    def close(self) -> None:
        """End the helper processes; studies go on."""
        self._closing.set()
        with self._opening:
            for part in (self._analyst, self._runs, self._store):
                if part is not None:
                    part.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, exc: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def _require_local_disk(folder: Path) -> None:
    if kind := network_disk(folder):
        raise InvalidRequestError(
            f"The workspace {folder} lies on a network disk ({kind}): locks and SQLite are not safe there.",
            hint="Choose a local folder with --workspace or TUNING_WORKSPACE.",
        )
