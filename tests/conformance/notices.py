"""Fixtures that notify the client: log messages, changed lists, and the subscriptions of 2025-11-25."""

from typing import Any

from mcp.server import MCPServer
from mcp.server.context import ServerRequestContext
from mcp.server.mcpserver import Context
from mcp.types import EmptyResult, SetLevelRequestParams, SubscribeRequestParams, UnsubscribeRequestParams

Request = ServerRequestContext[Any, Any]


async def test_tool_with_logging(ctx: Context) -> str:
    """Three log messages."""
    for message in ("Tool execution started", "Tool processing data", "Tool execution completed"):
        await ctx.info(message)
    return "Done."


async def test_logging_tool(ctx: Context) -> str:
    """A log message, for clients that ask for one."""
    await ctx.info("Working")
    return "Done."


async def test_trigger_tool_change(ctx: Context) -> str:
    """Says that the list of tools has changed."""
    await ctx.notify_tools_changed()
    return "Said."


async def test_trigger_prompt_change(ctx: Context) -> str:
    """Says that the list of prompts has changed."""
    await ctx.notify_prompts_changed()
    return "Said."


TOOLS = (test_tool_with_logging, test_logging_tool, test_trigger_tool_change, test_trigger_prompt_change)


def add_handlers(server: MCPServer[Any]) -> None:
    """The methods of 2025-11-25 that the SDK's server leaves to whoever needs them."""
    subscribed: set[str] = set()

    async def set_level(_request: Request, _params: SetLevelRequestParams) -> EmptyResult:
        return EmptyResult()

    async def subscribe(_request: Request, params: SubscribeRequestParams) -> EmptyResult:
        subscribed.add(str(params.uri))
        return EmptyResult()

    async def unsubscribe(_request: Request, params: UnsubscribeRequestParams) -> EmptyResult:
        subscribed.remove(str(params.uri))
        return EmptyResult()

    handlers = server._lowlevel_server
    handlers.add_request_handler("logging/setLevel", SetLevelRequestParams, set_level)
    handlers.add_request_handler("resources/subscribe", SubscribeRequestParams, subscribe)
    handlers.add_request_handler("resources/unsubscribe", UnsubscribeRequestParams, unsubscribe)
