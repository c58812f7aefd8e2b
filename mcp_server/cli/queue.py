"""`tuning-mcp queue`."""

from pathlib import Path
from typing import Annotated

import typer

from mcp_server.cli.status import print_table
from mcp_server.settings import Settings
from mcp_server.workspace import Workspace


def queue(
    *,
    workspace: Annotated[Path | None, typer.Option(help="Folder of the databases.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="JSON on stdout.")] = False,
) -> None:
    """Print what runs and what waits, and for whom."""
    with Workspace(Settings.load(workspace=workspace)) as opened:
        found = opened.queue.status()
    if as_json:
        typer.echo(found.model_dump_json(exclude_none=True))
        return
    typer.echo(found.message)
    for table in (found.studies, found.users):
        if table.rows:
            print_table(table)
