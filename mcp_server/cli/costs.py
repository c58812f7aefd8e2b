"""`tuning-mcp costs`."""

from pathlib import Path
from typing import Annotated

import typer

from mcp_server.cli.status import print_table
from mcp_server.settings import Settings
from mcp_server.studies.prices import EXAMPLE
from mcp_server.studies.summary import Grouping
from mcp_server.workspace import Workspace


def costs(
    *,
    workspace: Annotated[Path | None, typer.Option(help="Folder of the databases.")] = None,
    by: Annotated[Grouping, typer.Option(help="What to add up by.")] = "team",
    tag: Annotated[str | None, typer.Option(help="Name of the tag, with --by tag.")] = None,
    month: Annotated[str | None, typer.Option(help="Only what ended in this month, e.g. 2026-11.")] = None,
    example: Annotated[bool, typer.Option("--example", help="Print a costs.yaml to begin with.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="JSON on stdout.")] = False,
) -> None:
    """Print who spent what, what teams have left, and what waits for an approval."""
    if example:
        typer.echo(EXAMPLE, nl=False)
        return
    with Workspace(Settings.load(workspace=workspace)) as opened:
        report = opened.costs.report(by, tag=tag, month=month)
    if as_json:
        typer.echo(report.model_dump_json(exclude_none=True))
        return
    for table in (report.groups, report.budgets, report.waiting):
        if table is not None and table.rows:
            print_table(table)
    typer.echo(f"${report.total_usd:.4f} in all." + (f" {report.note}" if report.note else ""))
