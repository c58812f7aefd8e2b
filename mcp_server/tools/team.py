"""Tools for those who look after a server that several people use."""

from importlib.metadata import version
from typing import Annotated

from pydantic import BaseModel, Field

from mcp_server.access import Permission
from mcp_server.studies.decision import Decision
from mcp_server.studies.summary import CostReport, Grouping, Month, StudyStatus
from mcp_server.tools._toolset import Call, Toolset

toolset = Toolset("team", default=False)


class ToolCalls(BaseModel):
    """Calls since the server started: a row for each tool and outcome."""

    columns: list[str] = ["tool", "outcome", "calls", "mean_ms"]
    rows: list[list[str | int | float]]


class ServerStatus(BaseModel):
    """A running server."""

    version: str
    workspace: str
    transport: str
    caller: str
    role: str
    read_only: bool
    calls: ToolCalls


@toolset.tool(Permission.READ, title="Status of the server")
def server_status(call: Call) -> ServerStatus:
    """Version, role and settings of this server, and how often each tool was called, how it ended and how fast."""
    settings = call.workspace.settings
    rows: list[list[str | int | float]] = [
        [tool, outcome, durations.count, round(1000 * durations.seconds / durations.count, 1)]
        for (tool, outcome), durations in call.workspace.metrics.snapshot().items()
    ]
    return ServerStatus(
        version=version("tuning-mcp"),
        workspace=str(settings.workspace),
        transport=settings.transport,
        caller=call.principal.name,
        role=call.principal.role.value,
        read_only=settings.read_only,
        calls=ToolCalls(rows=rows),
    )


class ApproveSpec(Decision):
    """A decision about one study."""

    study_name: Annotated[str, Field(max_length=120, description="Name of the study.")]


@toolset.tool(Permission.APPROVE, title="Approve or decline a study", idempotent=True)
def approve(call: Call, spec: ApproveSpec) -> StudyStatus:
    """Let a study start that waits because of its cost, up to a limit, or decline it; get_budget_report lists them."""
    given = {name: getattr(spec, name) for name in Decision.model_fields}
    return call.workspace.studies.decide(spec.study_name, call.principal, Decision(**given))


@toolset.tool(Permission.READ, title="Who spent what")
def get_budget_report(
    call: Call,
    by: Annotated[Grouping, Field(description="What to add up by; weeks are ISO weeks in UTC.")] = "team",
    tag: Annotated[str | None, Field(max_length=120, description="Name of the tag, with by=tag.")] = None,
    month: Annotated[Month | None, Field(description="Only what ended in this month, e.g. 2026-11.")] = None,
    limit: Annotated[int, Field(ge=1, le=500, description="Groups to list; the others are one row.")] = 50,
) -> CostReport:
    """What trials cost in US dollars, by team, user, study, tag or week; the groups add up to the total."""
    return call.workspace.costs.report(by, tag=tag, month=month, limit=limit)
