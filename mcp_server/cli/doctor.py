"""`tuning-mcp doctor`."""

import json
import sys
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer

from mcp_server.errors import InvalidRequestError, WorkspaceError
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
    if as_json and repair and not yes:
        raise InvalidRequestError("With --json nothing can be asked.", hint="Pass --yes too, or leave --json out.")
    say = _silent if as_json else typer.echo
    with Workspace(Settings.load(workspace=workspace)) as opened:
        findings, violations = examine(opened)
        if not as_json:
            _print(opened, findings, violations)
        done: list[str] = []
        if repair and (done := _repaired(repairs(opened, violations), say, sure=yes)):
            violations = check_invariants(opened)
    if as_json:
        found = [asdict(finding) for finding in findings]
        told = {"findings": found, "violations": [asdict(v) for v in violations], "repaired": done}
        typer.echo(json.dumps(told, ensure_ascii=False))
    elif done:
        _print_violations(violations)
    if violations or any(finding.level == "problem" for finding in findings):
        sys.exit(1)


def _silent(_text: str) -> None:
    """Print nothing: JSON follows."""


def _repaired(plan: list[Repair], say: Callable[[str], None], *, sure: bool) -> list[str]:
    """What was put right, each thing for itself."""
    for step in plan:
        say(f"plan  {step.text}")
    if not plan:
        say("Nothing can be repaired.")
    elif not sure and not typer.confirm("Do all of this? Finished results stay as they are."):
        return []
    done = []
    for step in plan:
        try:
            step.apply()
        except (WorkspaceError, OSError) as exc:
            say(f"FAIL  {step.text} {exc}")
        else:
            done.append(step.text)
            say(f"done  {step.text}")
    return done


def _print(opened: Workspace, findings: list[Finding], violations: list[Violation]) -> None:
    typer.echo(f"Workspace {opened.settings.workspace}")
    for finding in findings:
        typer.echo(f"{_MARKS[finding.level]}  {finding.text}" + (f" {finding.hint}" if finding.hint else ""))
    _print_violations(violations)


def _print_violations(violations: list[Violation]) -> None:
    for violation in violations:
        typer.echo(f"FAIL  {violation}. Broken is: {PROMISES[violation.invariant]}.")
