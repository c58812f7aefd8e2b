"""`tuning-mcp resume`."""

import typer

from mcp_server.cli._control import BY, Study, WaitS, WorkspaceFolder, steering
from mcp_server.errors import ConflictError


def resume(study: Study, *, workspace: WorkspaceFolder = None, wait_s: WaitS = 0.0) -> None:
    """Go on with a study that is paused, stopped or failed, or whose runner died."""
    with steering(study, workspace, wait_s) as opened:
        try:
            opened.studies.control(study, "resume", BY)
            typer.echo(f"{study}: goes on.")
        except ConflictError:  # perhaps it only looks as if it ran
            if not opened.studies.revive(study):
                raise
            typer.echo(f"{study}: nobody ran it; it has a new runner.")
