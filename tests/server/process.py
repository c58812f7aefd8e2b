"""A server in a process of its own: the product's, or one with the toolbox (`python -m tests.server.process`)."""

import json
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from tests.conftest import eventually

ROOT = Path(__file__).parents[2]
PRODUCT = ("-m", "mcp_server", "serve")
TOOLBOX = ("-m", "tests.server.process")
INITIALIZE = {
    "protocolVersion": "2025-11-25",
    "capabilities": {},
    "clientInfo": {"name": "test", "version": "1"},
}


class Process:
    """A running server and its ends."""

    def __init__(self, running: subprocess.Popen, log: Path, workspace: Path) -> None:
        self.running = running
        self.log = log
        self.workspace = workspace
        self.url = ""
        self.token = ""

    def send(self, message: dict | bytes) -> None:
        """Write a line to stdin."""
        self.running.stdin.write((message if isinstance(message, bytes) else json.dumps(message).encode()) + b"\n")
        self.running.stdin.flush()

    def receive(self) -> dict:
        """The next line of stdout."""
        return json.loads(self.running.stdout.readline())

    def ask(self, method: str, params: dict, id_: int = 1) -> dict:
        """The answer to a request."""
        self.send({"jsonrpc": "2.0", "id": id_, "method": method, "params": params})
        return self.receive()

    def initialize(self) -> dict:
        """The handshake of the older protocol era."""
        answer = self.ask("initialize", INITIALIZE, 0)
        self.send({"jsonrpc": "2.0", "method": "notifications/initialized"})
        return answer

    def call(self, tool: str, id_: int = 1, **arguments: object) -> dict:
        """The result of a tool."""
        return self.ask("tools/call", {"name": tool, "arguments": arguments}, id_)["result"]

    def wait(self, seconds: float = 3) -> int:
        """The exit status; fails the test when the process still runs after `seconds`."""
        return self.running.wait(seconds)

    def wait_until_deaf(self) -> None:
        """Return when the server takes no more connections."""
        host, _, port = self.url.removeprefix("http://").partition("/")[0].partition(":")
        eventually(lambda: _refuses(host, int(port)))

    def told(self) -> str:
        """What was written to stderr."""
        return self.log.read_text(encoding="utf-8")


def _refuses(host: str, port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex((host, port)) != 0


@contextmanager
def process(folder: Path, *options: str, program: tuple[str, ...] = PRODUCT) -> Iterator[Process]:
    """A server on a scratch workspace in `folder`."""
    workspace, log = folder / "workspace", folder / "stderr.log"
    with log.open("wb") as stderr:
        running = subprocess.Popen(
            [sys.executable, *program, "--workspace", str(workspace), *options],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=stderr,
            cwd=ROOT,
        )
    try:
        yield Process(running, log, workspace)
    finally:
        running.kill()
        running.wait()
        for pipe in (running.stdin, running.stdout):
            with suppress(BrokenPipeError):
                pipe.close()


@contextmanager
def listening(folder: Path, transport: str, *options: str, program: tuple[str, ...] = PRODUCT) -> Iterator[Process]:
    """A server that listens on a free port."""
    with process(folder, "--transport", transport, "--port", "0", *options, program=program) as server:
        eventually(lambda: "Bearer token: " in server.told() or server.running.poll() is not None)
        lines = {line.split()[0]: line.split() for line in server.told().splitlines()[:2]}
        server.url, server.token = lines["Listening"][2], lines["Bearer"][2]
        yield server


if __name__ == "__main__":
    from argparse import ArgumentParser

    from mcp_server import logs, transports
    from mcp_server.settings import Settings
    from mcp_server.workspace import Workspace
    from tests.tools.toolbox import toolbox

    parser = ArgumentParser()
    parser.add_argument("--workspace")
    parser.add_argument("--transport", default="stdio")
    parser.add_argument("--port", type=int, default=0)
    parser.add_argument("--role", default="operator")
    logs.configure()
    transports.serve(Workspace(Settings(**vars(parser.parse_args()))), (toolbox,))
