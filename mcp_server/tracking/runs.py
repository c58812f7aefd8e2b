"""Runs as other parts of the server see them; mlflow itself lives in a companion process."""

import re
import threading

from mcp_server.errors import InvalidRequestError
from mcp_server.processes import Companion
from mcp_server.settings import PREFIX, Settings
from mcp_server.tracking.environment import MLFLOW_ENVIRONMENT
from mcp_server.tracking.inventory import StoredRun, from_json, runs_in_file
from mcp_server.tracking.queries import RunDetails, RunQuery, RunTable
from mcp_server.tracking.target import tracking_target
from mcp_server.types import JsonObject, shown

__all__ = ["RunDetails", "RunQuery", "RunTable", "Runs"]

IDLE_S = 300.0  # the companion holds 200 MB
_RUN_ID = re.compile(r"[0-9a-f]{32}")


class Runs:
    """Read access to the tracking store of a workspace. Safe to share between threads.

    Raises:
        InvalidRequestError: If the settings name no usable tracking store.
    """

    def __init__(self, settings: Settings, *, idle_s: float = IDLE_S) -> None:
        self._target = tracking_target(settings)
        self.backend = self._target.backend
        self._idle_s = idle_s
        self._idle: threading.Timer | None = None
        environment = dict(MLFLOW_ENVIRONMENT)
        if settings.tracking_uri is not None:
            environment[f"{PREFIX}TRACKING_URI"] = settings.tracking_uri
        self._companion = Companion(
            "mcp_server.tracking.reader",
            ["--workspace", str(settings.workspace)],
            log=settings.workspace / "logs" / "reader.log",
            environment=environment,
        )

    def search(self, query: RunQuery) -> RunTable:
        """A page of runs.

        Raises:
            InvalidRequestError: If the filter, a sort term, a column or the cursor cannot be used.
            NotFoundError: If an experiment does not exist.
            BackendUnavailableError: If the tracking store does not answer.
        """
        return RunTable.model_validate(self._ask("search_runs", query.model_dump(mode="json")))

    def get(self, run_id: str) -> RunDetails:
        """Everything about one run.

        Raises:
            InvalidRequestError: If `run_id` is not 32 hexadecimal digits.
            RunNotFoundError: If there is no such run.
            BackendUnavailableError: If the tracking store does not answer.
        """
        if not _RUN_ID.fullmatch(run_id):
            raise InvalidRequestError(
                f"{shown(run_id)!r} is not a run id.", hint="A run id has 32 hexadecimal digits; see search_runs."
            )
        return RunDetails.model_validate(self._ask("get_run", {"run_id": run_id}))

    def stored(self, study_id: str) -> list[StoredRun]:
        """The runs that the tracking store has of a study and its trials, deleted ones too.

        Raises:
            BackendUnavailableError: If the tracking store does not answer.
            sqlite3.DatabaseError: If MLflow's file cannot be read.
        """
        if (path := self._target.database) is not None:
            return runs_in_file(path, study_id) if path.exists() else []
        return from_json(self._ask("stored_runs", {"study_id": study_id}))

    def warm_up(self) -> None:
        """Start the companion, so that the first question does not wait for its imports."""
        self._companion.warm_up()
        self._close_when_idle()

    def close(self) -> None:
        """End the companion; the next question starts it again."""
        if self._idle is not None:
            self._idle.cancel()
        self._companion.close()

    def _ask(self, call: str, arguments: JsonObject) -> JsonObject:
        try:
            return self._companion.ask(call, arguments)
        finally:
            self._close_when_idle()

    def _close_when_idle(self) -> None:
        if self._idle is not None:
            self._idle.cancel()
        self._idle = threading.Timer(self._idle_s, self._companion.close)
        self._idle.daemon = True
        self._idle.start()
