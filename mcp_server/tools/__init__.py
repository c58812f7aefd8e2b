"""The tools that clients see: the whole offer."""

from mcp_server.tools import team, tracking, training, tuning
from mcp_server.tools._toolset import Call, Tool, Toolset

TOOLSETS: tuple[Toolset, ...] = (tuning.toolset, training.toolset, tracking.toolset, team.toolset)

__all__ = ["TOOLSETS", "Call", "Tool", "Toolset"]
