"""`tuning-mcp stop`."""

import typer

from mcp_server.cli._control import BY, Study, WaitS, WorkspaceFolder, steering


def stop(study: Study, *, workspace: WorkspaceFolder = None, wait_s: WaitS = 0.0) -> None:
    """End a study, also one whose runner died; its best trial so far stays, and resume goes on with it."""
    with steering(study, workspace, wait_s) as opened:
        opened.studies.control(study, "stop", BY)
        typer.echo(f"{study}: told to stop; what runs is cancelled.")
