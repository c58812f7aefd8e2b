"""`tuning-mcp serve` and `tuning-mcp version`."""

from importlib.metadata import version as installed
from pathlib import Path
from typing import Annotated, Literal

import typer

from mcp_server import logs
from mcp_server.settings import Settings


def serve(
    *,
    transport: Annotated[Literal["stdio", "http", "sse"] | None, typer.Option(help="How clients connect.")] = None,
    host: Annotated[str | None, typer.Option(help="Address for http and sse; loopback only.")] = None,
    port: Annotated[
        int | None, typer.Option(min=0, max=65535, help="Port for http and sse; 0 takes a free one.")
    ] = None,
    workspace: Annotated[Path | None, typer.Option(help="Folder of the databases, logs and artifacts.")] = None,
    data_root: Annotated[
        list[Path] | None, typer.Option(help="Folder that data may be read from; may be repeated.")
    ] = None,
    role: Annotated[
        Literal["viewer", "operator", "admin"] | None, typer.Option(help="What clients of this server may do.")
    ] = None,
    toolsets: Annotated[str | None, typer.Option(help="Toolsets to offer instead of the default ones: a,b.")] = None,
    read_only: Annotated[bool | None, typer.Option("--read-only", help="Offer only tools that change nothing.")] = None,
) -> None:
    """Serve a workspace to MCP clients.

    Each option can also be set by the environment (TUNING_PORT=8000) and in tuning.toml of the workspace.
    """
    settings = Settings.load(
        transport=transport,
        host=host,
        port=port,
        workspace=workspace,
        data_roots=tuple(data_root or ()),
        role=role,
        toolsets=toolsets,
        read_only=read_only,
    )
    logs.configure(settings.log_level)
    from mcp_server import transports  # after `logs`, because the SDK configures logging where nobody has
    from mcp_server.workspace import Workspace

    transports.serve(Workspace(settings))


def version() -> None:
    """Print the version."""
    typer.echo(installed("tuning-mcp"))
