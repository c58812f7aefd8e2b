"""`tuning-mcp pause`."""

import typer

from mcp_server.cli._control import BY, Study, WaitS, WorkspaceFolder, steering


def pause(study: Study, *, workspace: WorkspaceFolder = None, wait_s: WaitS = 0.0) -> None:
    """Let the running trials of a study end, and start no more until it is resumed."""
    with steering(study, workspace, wait_s) as opened:
        opened.studies.control(study, "pause", BY)
        typer.echo(f"{study}: told to pause; what runs may end.")
