"""`tuning-mcp doctor`."""

import json
import sys
from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer

from mcp_server.health import PROMISES, Finding, Violation, examine
from mcp_server.settings import Settings
from mcp_server.workspace import Workspace

_MARKS = {"ok": "ok  ", "warning": "warn", "problem": "FAIL"}


def doctor(
    *,
    workspace: Annotated[Path | None, typer.Option(help="Folder of the databases.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="JSON on stdout.")] = False,
) -> None:
    """Check the installation and the workspace; exit with 1 when something is wrong. Studies may run meanwhile."""
    with Workspace(Settings.load(workspace=workspace)) as opened:
        findings, violations = examine(opened)
    if as_json:
        typer.echo(_as_json(findings, violations))
    else:
        _print(opened, findings, violations)
    if violations or any(finding.level == "problem" for finding in findings):
        sys.exit(1)


def _as_json(findings: list[Finding], violations: list[Violation]) -> str:
    found = {"findings": [asdict(f) for f in findings], "violations": [asdict(v) for v in violations]}
    return json.dumps(found, ensure_ascii=False)


def _print(opened: Workspace, findings: list[Finding], violations: list[Violation]) -> None:
    typer.echo(f"Workspace {opened.settings.workspace}")
    for finding in findings:
        typer.echo(f"{_MARKS[finding.level]}  {finding.text}" + (f" {finding.hint}" if finding.hint else ""))
    for violation in violations:
        typer.echo(f"FAIL  {violation}. Broken is: {PROMISES[violation.invariant]}.")
