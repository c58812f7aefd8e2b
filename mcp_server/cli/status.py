"""`tuning-mcp status`."""

import csv
import io
import json
import shlex
import sys
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.table import Table as Grid

from mcp_server.settings import Settings
from mcp_server.studies.summary import StudyStatus, Table
from mcp_server.types import Scalar
from mcp_server.workspace import Workspace


def status(
    study: Annotated[str | None, typer.Argument(help="Name of a study; all studies when omitted.")] = None,
    *,
    workspace: Annotated[Path | None, typer.Option(help="Folder of the databases.")] = None,
    trials: Annotated[bool, typer.Option("--trials", help="Every trial of the study as CSV on stdout.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="JSON on stdout.")] = False,
) -> None:
    """Print how studies are going."""
    with Workspace(Settings.load(workspace=workspace)) as opened:
        if study is None:
            print_table(opened.studies.read.page(100).studies)
            _print_orphans(opened.studies.unattended())
        elif trials:
            sys.stdout.write(as_csv(opened.studies.read.table(study)))
        elif as_json:
            typer.echo(opened.studies.read.status(study, full=True).model_dump_json(exclude_none=True))
        else:
            _print_status(opened.studies.read.status(study))
            _print_orphans([name for name in opened.studies.unattended() if name == study])


def as_csv(table: Table) -> str:
    """The table as CSV; a cell that a spreadsheet would run as a formula is quoted with an apostrophe.

    >>> as_csv(Table(columns=["a", "b"], rows=[["=1+1", 2.5]])).splitlines()
    ['a,b', "'=1+1,2.5"]
    """
    text = io.StringIO()
    writer = csv.writer(text)
    writer.writerow(map(_inert, table.columns))
    for row in table.rows:
        writer.writerow(map(_inert, row))
    return text.getvalue()


def _inert(cell: Scalar) -> Scalar:
    return f"'{cell}" if isinstance(cell, str) and cell.startswith(("=", "+", "-", "@", "\t", "\r")) else cell


def print_table(table: Table) -> None:
    """Print a table as a grid, or that there is no study yet."""
    grid = Grid(*table.columns)
    for row in table.rows:
        grid.add_row(*("" if cell is None else str(cell) for cell in row))
    Console(markup=False, emoji=False).print(grid if table.rows else "No study yet.")


def _print_orphans(names: list[str]) -> None:
    for name in names:
        typer.echo(f"Nobody runs {name}: tuning-mcp resume {shlex.quote(name)} goes on with it, and any server does.")


def _print_status(found: StudyStatus) -> None:
    console = Console(markup=False, emoji=False, highlight=False)  # an error's text may look like markup
    console.print(found.message, soft_wrap=True)
    if found.trend:
        console.print(f"best so far  {found.trend}")
    if found.best_params:
        console.print(f"best params  {json.dumps(found.best_params)}", soft_wrap=True)
    tracking = found.tracking
    console.print(
        f"tracking     {tracking.backend}, " + ("all arrived" if tracking.synced else f"{tracking.pending} to go")
    )
    for line in (*(found.warnings or ()), found.error, found.next_step):
        if line:
            console.print(line, soft_wrap=True)
