"""`tuning-mcp approve`."""

from typing import Annotated

import typer

from mcp_server.cli._control import BY, Study, WorkspaceFolder, steering
from mcp_server.studies.decision import Decision


def approve(
    study: Study,
    *,
    workspace: WorkspaceFolder = None,
    limit_usd: Annotated[float | None, typer.Option(min=0.0, help="What it may cost in all.")] = None,
    decline: Annotated[bool, typer.Option("--decline", help="Decline it: the study ends.")] = False,
    reason: Annotated[str | None, typer.Option(help="Shown to its owner.")] = None,
) -> None:
    """Let a study start that waits because of its cost, or decline it."""
    with steering(study, workspace) as opened:
        decision = Decision.of(limit_usd=limit_usd, decline=decline, reason=reason)
        typer.echo(f"{study}: {opened.studies.decide(study, BY, decision).note}")
