"""The command line: `tuning-mcp <command>`."""

import sys
from collections.abc import Iterable
from importlib import import_module

import typer

from mcp_server.errors import WorkspaceError

COMMANDS = {
    "serve": "mcp_server.cli.serve",
    "demo": "mcp_server.cli.demo",
    "status": "mcp_server.cli.status",
    "queue": "mcp_server.cli.queue",
    "stop": "mcp_server.cli.stop",
    "pause": "mcp_server.cli.pause",
    "resume": "mcp_server.cli.resume",
    "costs": "mcp_server.cli.costs",
    "approve": "mcp_server.cli.approve",
    "logs": "mcp_server.cli.logs",
    "doctor": "mcp_server.cli.doctor",
    "version": "mcp_server.cli.serve",
}
USAGE_ERROR = 2


def application(names: Iterable[str] = tuple(COMMANDS)) -> typer.Typer:
    """The commands of these names; a server must not wait for the imports of the others."""
    app = typer.Typer(
        name="tuning-mcp",
        no_args_is_help=True,
        add_completion=False,
        pretty_exceptions_enable=False,
        rich_markup_mode=None,
    )
    app.callback()(_about)
    for name in names:
        app.command(name)(getattr(import_module(COMMANDS[name]), name))
    return app


def main() -> None:
    """Run the command that the arguments of this process name."""
    named = sys.argv[1] if len(sys.argv) > 1 else ""
    try:
        application([named] if named in COMMANDS else COMMANDS)()
    except WorkspaceError as exc:
        typer.echo(f"tuning-mcp: {exc}", err=True)
        sys.exit(USAGE_ERROR)


def _about() -> None:
    """Tune, train and track models from an assistant."""


def __getattr__(name: str) -> typer.Typer:
    """`app` with every command, made when it is asked for."""
    if name == "app":
        return application()
    raise AttributeError(name)
