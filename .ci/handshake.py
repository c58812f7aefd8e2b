"""Start the installed server as a host does, and ask it for its tools: fails when any of it fails."""
# ruff: noqa: INP001 - a script, not a package

import sys
import tempfile

import anyio
from mcp import Client
from mcp.client.stdio import StdioServerParameters


async def handshake(workspace: str) -> None:
    """Connect over stdio in both protocol eras and list the tools."""
    server = StdioServerParameters(command=sys.executable, args=["-m", "mcp_server", "serve", "--workspace", workspace])
    for mode in ("legacy", "auto"):
        async with Client(server, mode=mode) as client:
            tools = (await client.list_tools()).tools
            sys.stdout.write(f"{mode}: protocol {client.protocol_version}, {len(tools)} tools\n")
            if not tools:
                sys.exit("the server offers no tools")


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as folder:
        anyio.run(handshake, folder)
