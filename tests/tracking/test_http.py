import os
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request

import pytest

from mcp_server.errors import BackendUnavailableError
from mcp_server.processes import kill_tree
from mcp_server.settings import Settings
from mcp_server.store import Store
from mcp_server.tracking.drain import Drain
from mcp_server.tracking.mlflow import MlflowTracker
from mcp_server.tracking.queries import RunQuery
from mcp_server.tracking.runs import Runs
from mcp_server.tracking.target import tracking_target
from tests.tracking.records import END, STUDY, owe, tracking_status, trial

pytestmark = [pytest.mark.nightly, pytest.mark.process]


@pytest.fixture
def address():
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return f"http://127.0.0.1:{free.getsockname()[1]}"


@pytest.fixture
def serve(address, tmp_path):
    """A function that starts MLflow's own server at the address and returns when it answers."""
    started = []

    def start():
        port = address.rsplit(":", 1)[1]
        command = [sys.executable, "-m", "mlflow", "server", "--workers", "1", "--port", port]
        command += ["--backend-store-uri", f"sqlite:///{tmp_path}/served.db"]
        command += ["--artifacts-destination", str(tmp_path / "served")]
        environment = {**os.environ, "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false"}
        started.append(subprocess.Popen(command, env=environment, start_new_session=True))
        until = time.monotonic() + 120
        while not healthy(address):
            assert time.monotonic() < until, "the server did not start"
            time.sleep(0.1)

    yield start
    for process in started:
        kill_tree(process.pid)


def healthy(address):
    try:
        return urllib.request.urlopen(f"{address}/health", timeout=1).status == 200  # noqa: S310 - ours
    except (urllib.error.URLError, OSError):
        return False


def test_what_waited_for_a_server_that_was_down_arrives_once_and_can_be_read(tmp_path, address, serve, capfd):
    settings = Settings(workspace=tmp_path / "workspace", tracking_uri=address)
    store = Store(settings.workspace)
    owe(store, STUDY, *(trial(number) for number in range(5)), END)
    drain = Drain(store, MlflowTracker(tracking_target(settings)))
    with pytest.raises(BackendUnavailableError):
        drain.run_batch()
    assert tracking_status(store).pending == 7
    serve()
    capfd.readouterr()
    while drain.run_batch():
        pass
    assert "View run" not in capfd.readouterr().out
    assert tracking_status(store).synced
    runs = Runs(settings)
    try:
        table = runs.search(RunQuery(study_name="churn", columns=["run_id", "status"]))
        details = runs.get(str(table.rows[0][0]))
        stored = runs.stored("s1")
    finally:
        runs.close()
    assert [row[1] for row in table.rows] == ["FINISHED"] * 5
    assert table.backend == "http"
    assert sorted(run.uid for run in stored) == ["s1", *(f"s1/{number}" for number in range(5))]
    assert {(run.status, run.deleted) for run in stored} == {("FINISHED", False)}
    assert [run.params["kernel"] for run in stored if run.uid == "s1/3"] == ["rbf"]
    assert [artifact.path for artifact in details.artifacts] == ["config.json"]
