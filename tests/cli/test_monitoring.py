"""A study can be watched while it runs: from a terminal and in MLflow."""

import json
import os
import socket
import subprocess
import sys
import urllib.error
import urllib.request
from pathlib import Path

import pytest

from mcp_server.processes import kill_tree
from mcp_server.tracking.mlflow import open_client
from mcp_server.tracking.target import tracking_target
from mcp_server.workspace import Workspace
from tests.cli.test_status import run
from tests.conftest import eventually
from tests.health.test_invariants import stored
from tests.processes.test_kill import live, start_held

__all__ = ["live"]

pytestmark = pytest.mark.process
FINISHED = "tags.`mcp.kind` = 'trial' AND attributes.status = 'FINISHED'"


@pytest.fixture
def watched(live: Workspace, tmp_path: Path) -> Workspace:
    """A study that runs and of which two trials are in MLflow already."""
    start_held(live, tmp_path / "held", hold=2, n_trials=4)
    database = live.settings.workspace / "mlflow.db"
    eventually(lambda: database.exists() and len([r for r in stored(live) if r.status == "FINISHED"]) == 2)
    return live


def test_status_and_mlflow_show_the_trials_of_a_study_that_runs(watched: Workspace) -> None:
    told = run(watched, "status", "study").output
    status = watched.studies.read.status("study")
    client = open_client(tracking_target(watched.settings))
    (experiment,) = client.search_experiments(filter_string="name = 'study'")
    runs = client.search_runs([experiment.experiment_id], FINISHED)

    assert told.startswith("running: 2 of 4 trials")
    assert f"best value {status.best_value:.4g}" in told
    assert min(r.data.metrics["value"] for r in runs) == status.best_value


@pytest.mark.nightly
def test_mlflow_ui_shows_the_trials_of_a_study_that_runs(watched: Workspace) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    uri = f"sqlite:///{watched.settings.workspace / 'mlflow.db'}"
    command = [sys.executable, "-m", "mlflow", "ui", "--workers", "1", "--port", str(port), "--backend-store-uri", uri]
    environment = {**os.environ, "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false"}
    process = subprocess.Popen(command, env=environment, start_new_session=True)
    try:
        address = f"http://127.0.0.1:{port}"
        found = eventually(lambda: asked(f"{address}/api/2.0/mlflow/experiments/get-by-name?experiment_name=study"))
        body = {"experiment_ids": [found["experiment"]["experiment_id"]], "filter": FINISHED}
        runs = asked(f"{address}/api/2.0/mlflow/runs/search", body)["runs"]
    finally:
        kill_tree(process.pid)

    assert len(runs) == 2


def asked(url: str, body: dict | None = None) -> dict | None:
    data = None if body is None else json.dumps(body).encode()
    request = urllib.request.Request(url, data, {"Content-Type": "application/json"})  # noqa: S310 - ours
    try:
        with urllib.request.urlopen(request, timeout=5) as answer:  # noqa: S310 - ours
            return json.load(answer)
    except (urllib.error.URLError, OSError):
        return None
