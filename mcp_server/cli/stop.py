"""`tuning-mcp stop`."""

from typing import Annotated

import typer

from mcp_server.cli._control import BY, Study, WaitS, WorkspaceFolder, steering


def stop(
    study: Study,
    *,
    workspace: WorkspaceFolder = None,
    drain: Annotated[bool, typer.Option("--drain", help="Let running trials end first.")] = False,
    wait_s: WaitS = 0.0,
) -> None:
    """End a study, also one whose runner died; its best trial so far stays, and resume goes on with it."""
    with steering(study, workspace, wait_s) as opened:
        opened.studies.control(study, "stop", BY, how="drain" if drain else "now")
        typer.echo(f"{study}: told to stop; what runs {'may end' if drain else 'is cancelled'}.")
