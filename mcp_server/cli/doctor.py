"""`tuning-mcp doctor`."""

import json
import sys
from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer

from mcp_server.errors import WorkspaceError
from mcp_server.health import PROMISES, Finding, Repair, Violation, check_invariants, examine, repairs
from mcp_server.settings import Settings
from mcp_server.workspace import Workspace

_MARKS = {"ok": "ok  ", "warning": "warn", "problem": "FAIL"}


def doctor(
    *,
    workspace: Annotated[Path | None, typer.Option(help="Folder of the databases.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="JSON on stdout.")] = False,
    repair: Annotated[bool, typer.Option("--repair", help="Show what can be put right, ask, and do it.")] = False,
    yes: Annotated[bool, typer.Option("--yes", help="Repair without asking.")] = False,
) -> None:
    """Check the installation and the workspace; exit with 1 when something is wrong. Studies may run meanwhile."""
    with Workspace(Settings.load(workspace=workspace)) as opened:
        findings, violations = examine(opened)
        if as_json and not repair:
            typer.echo(_as_json(findings, violations))
        else:
            _print(opened, findings, violations)
        if repair and _repaired(repairs(opened, violations), sure=yes):
            violations = check_invariants(opened)
            _print_violations(violations)
    if violations or any(finding.level == "problem" for finding in findings):
        sys.exit(1)


def _repaired(plan: list[Repair], *, sure: bool) -> bool:
    """Whether what can be put right was; each thing for itself."""
    if not plan:
        typer.echo("Nothing can be repaired.")
        return False
    for step in plan:
        typer.echo(f"plan  {step.text}")
    if not sure and not typer.confirm("Do all of this? Finished results stay as they are."):
        return False
    for step in plan:
        try:
            step.apply()
        except WorkspaceError as exc:
            typer.echo(f"FAIL  {step.text} {exc}")
        else:
            typer.echo(f"done  {step.text}")
    return True


def _as_json(findings: list[Finding], violations: list[Violation]) -> str:
    found = {"findings": [asdict(f) for f in findings], "violations": [asdict(v) for v in violations]}
    return json.dumps(found, ensure_ascii=False)


def _print(opened: Workspace, findings: list[Finding], violations: list[Violation]) -> None:
    typer.echo(f"Workspace {opened.settings.workspace}")
    for finding in findings:
        typer.echo(f"{_MARKS[finding.level]}  {finding.text}" + (f" {finding.hint}" if finding.hint else ""))
    _print_violations(violations)


def _print_violations(violations: list[Violation]) -> None:
    for violation in violations:
        typer.echo(f"FAIL  {violation}. Broken is: {PROMISES[violation.invariant]}.")
