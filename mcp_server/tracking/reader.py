"""`python -m mcp_server.tracking.reader --workspace DIR`: answers questions about runs for a server process."""

import argparse
import sys
from functools import cached_property
from typing import TYPE_CHECKING

from mcp_server import logs
from mcp_server.processes import answer_requests
from mcp_server.settings import Settings
from mcp_server.tracking import environment
from mcp_server.tracking.inventory import as_json, runs_of_client
from mcp_server.tracking.mlflow import open_client, translated
from mcp_server.tracking.queries import RunQuery, RunTable
from mcp_server.tracking.search import RunSearcher, run_details, run_not_found
from mcp_server.tracking.target import TrackingTarget, tracking_target
from mcp_server.types import JsonObject

if TYPE_CHECKING:
    from mlflow import MlflowClient


class Reader:
    """The read calls; nothing is created in a workspace that has not tracked anything yet."""

    def __init__(self, target: TrackingTarget) -> None:
        self._target = target

    def search_runs(self, arguments: JsonObject) -> JsonObject:
        """A `RunTable` for a `RunQuery`."""
        if not self._is_there():
            empty = RunTable(backend=self._target.backend, columns=[], rows=[], note="Nothing has been tracked yet.")
            return empty.model_dump(mode="json")
        query = RunQuery.model_validate(arguments)
        return RunSearcher(self._client, self._target, query).table().model_dump(mode="json")

    def get_run(self, arguments: JsonObject) -> JsonObject:
        """`RunDetails` for a run id."""
        run_id = str(arguments["run_id"])
        if not self._is_there():
            raise run_not_found(run_id)
        return run_details(self._client, self._target, run_id).model_dump(mode="json")

    def stored_runs(self, arguments: JsonObject) -> JsonObject:
        """The runs of a study id, deleted ones too."""
        with translated(self._target):
            return as_json(runs_of_client(self._client, str(arguments["study_id"])))

    @cached_property
    def _client(self) -> "MlflowClient":
        return open_client(self._target)

    def _is_there(self) -> bool:
        return self._target.database is None or self._target.database.exists()


def main(arguments: list[str] | None = None) -> int:
    """Answer until stdin closes."""
    parser = argparse.ArgumentParser(prog="python -m mcp_server.tracking.reader", description=__doc__)
    parser.add_argument("--workspace", required=True, help="folder of the workspace")
    settings = Settings.load(workspace=parser.parse_args(arguments).workspace)
    logs.configure(settings.log_level)
    environment.prepare()
    import mlflow  # noqa: F401 - so that warming up the process includes the slow part

    reader = Reader(tracking_target(settings))
    answer_requests({"search_runs": reader.search_runs, "get_run": reader.get_run, "stored_runs": reader.stored_runs})
    return 0


if __name__ == "__main__":
    sys.exit(main())
