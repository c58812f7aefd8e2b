"""Tools that read the tracking store."""

from typing import Annotated

from pydantic import Field

from mcp_server.access import Permission
from mcp_server.tools._toolset import Call, Toolset
from mcp_server.tracking.runs import RunDetails, RunQuery, RunTable

toolset = Toolset("tracking", default=True)


@toolset.tool(Permission.READ, title="Search runs in MLflow")
def search_runs(call: Call, query: RunQuery) -> RunTable:
    """Find MLflow runs: of a study, by a filter, ordered by a metric, with the columns asked for."""
    return call.workspace.runs.search(query)


@toolset.tool(Permission.READ, title="Read one MLflow run")
def get_run(
    call: Call,
    run_id: Annotated[str, Field(pattern=r"^[0-9a-f]{32}$", description="Id of a run, from search_runs.")],
) -> RunDetails:
    """One MLflow run: parameters, metrics with histories, tags, artifacts, and the study and trial it belongs to."""
    return call.workspace.runs.get(run_id)
