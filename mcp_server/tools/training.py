"""Tools about the work of training: what runs and what waits."""

from typing import Annotated

from pydantic import Field

from mcp_server.access import Permission
from mcp_server.studies.summary import QueueStatus
from mcp_server.tools._toolset import Call, Toolset

toolset = Toolset("training", default=True)


@toolset.tool(Permission.READ, title="What runs and what waits")
def get_queue_status(
    call: Call,
    limit: Annotated[int, Field(ge=1, le=200, description="Studies and users to list.")] = 20,
) -> QueueStatus:
    """Busy slots and GPUs, the studies that run or wait in the order of their turns, and trials per user."""
    return call.workspace.queue.status(limit)
