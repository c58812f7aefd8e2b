"""What the commands that steer a study share."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated

import typer

from mcp_server.access import Principal, Role
from mcp_server.settings import Settings
from mcp_server.workspace import Workspace

BY = Principal("local", Role.ADMIN)  # who has the files of a workspace may do everything with it

Study = Annotated[str, typer.Argument(help="Name of a study.")]
WorkspaceFolder = Annotated[Path | None, typer.Option(help="Folder of the databases.")]
WaitS = Annotated[float, typer.Option(min=0, max=45, help="Seconds to wait for the study to come to rest.")]


@contextmanager
def steering(study: str, workspace: Path | None, wait_s: float = 0.0) -> Iterator[Workspace]:
    """The workspace while an order is given; afterwards, where the study stands is printed."""
    with Workspace(Settings.load(workspace=workspace)) as opened:
        yield opened
        opened.studies.wait(study, wait_s)
        typer.echo(f"{study}: {opened.studies.read.status(study).message}")
