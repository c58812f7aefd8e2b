"""`tuning-mcp doctor`."""

import platform
import sys
from pathlib import Path
from typing import Annotated

import typer

from mcp_server.health import Finding, examine
from mcp_server.settings import Settings
from mcp_server.workspace import Workspace

_MARKS = {"ok": "ok  ", "warning": "warn", "problem": "FAIL"}


def doctor(*, workspace: Annotated[Path | None, typer.Option(help="Folder of the databases.")] = None) -> None:
    """Check the installation and the workspace; exit with 1 when something is wrong."""
    with Workspace(Settings.load(workspace=workspace)) as opened:
        findings = examine(opened)
    typer.echo(f"Python {platform.python_version()} on {platform.system()}, workspace {opened.settings.workspace}")
    for finding in findings:
        typer.echo(_line(finding))
    if any(finding.level == "problem" for finding in findings):
        sys.exit(1)


def _line(finding: Finding) -> str:
    return f"{_MARKS[finding.level]}  {finding.text}" + (f" {finding.hint}" if finding.hint else "")
