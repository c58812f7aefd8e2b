"""MLflow's own server, for as long as somebody needs it."""

import os
import socket
import subprocess
import sys
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from mcp_server.processes import kill_tree
from tests.conftest import eventually

PATIENCE_S = 240.0


@contextmanager
def serving(folder: Path) -> Iterator[int]:
    """The port of a server whose database lies in `folder`."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = int(free.getsockname()[1])
    command = [sys.executable, "-m", "mlflow", "server", "--workers", "1", "--port", str(port)]
    command += ["--backend-store-uri", f"sqlite:///{folder}/served.db", "--artifacts-destination", str(folder)]
    environment = {**os.environ, "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false"}
    with (folder / "server.log").open("ab") as log:
        process = subprocess.Popen(command, env=environment, start_new_session=True, stdout=log, stderr=log)
    try:
        eventually(lambda: _healthy(port), within=PATIENCE_S)
        yield port
    finally:
        kill_tree(process.pid)
        process.wait()


def _healthy(port: int) -> bool:
    try:
        return bool(urllib.request.urlopen(f"http://127.0.0.1:{port}/health", timeout=1).status == 200)
    except (urllib.error.URLError, OSError):
        return False
