"""The MLflow server misbehaves for as long as a study runs: the study does not notice, and every trial arrives once."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from mcp_server.settings import Settings
from mcp_server.tracking.tracker import ensure_tracker, tracker_lock
from mcp_server.workspace import Workspace
from tests.conftest import eventually
from tests.faults.conftest import check, end_all, faulty_spec
from tests.faults.mlflow_server import serving
from tests.faults.proxy import FAULTS, Fault, FaultProxy

pytestmark = pytest.mark.process

N_TRIALS = 8
PATIENCE_S = 240.0


@pytest.fixture(scope="module")
def mlflow_port(tmp_path_factory: pytest.TempPathFactory) -> Iterator[int]:
    """The port of MLflow's own server."""
    with serving(tmp_path_factory.mktemp("served")) as port:
        yield port


@pytest.fixture
def proxy(request: pytest.FixtureRequest) -> Iterator[FaultProxy]:
    made = FaultProxy(request.getfixturevalue("mlflow_port") if "fault" in request.fixturenames else 0)
    yield made
    made.close()


@pytest.fixture
def tracked(proxy: FaultProxy, tmp_path: Path) -> Iterator[Workspace]:
    """A workspace that tracks through the proxy."""
    uri = f"http://127.0.0.1:{proxy.port}"
    with Workspace(Settings(workspace=tmp_path / "workspace", parallel=2, tracking_uri=uri)) as opened:
        yield opened
    end_all(tmp_path)


def run_study(workspace: Workspace) -> None:
    workspace.studies.start(faulty_spec("short", n_trials=N_TRIALS, parallel=2), "tester")
    eventually(lambda: workspace.studies.read.status("study").state == "finished", within=PATIENCE_S)


def test_nobody_but_the_tracker_speaks_to_mlflow(tracked: Workspace, proxy: FaultProxy) -> None:
    proxy.set("silent")
    with tracker_lock(tracked.settings):  # so none is started
        run_study(tracked)
        status = tracked.studies.read.status("study")

    assert status.n_complete == N_TRIALS
    assert status.tracking.pending == N_TRIALS + 2, "the study, its trials and its end"
    assert proxy.met == 0, "a trial, its runner or a server waited for MLflow"


@pytest.mark.nightly
@pytest.mark.timeout(900)
@pytest.mark.parametrize("fault", FAULTS)
def test_what_a_faulty_mlflow_server_missed_arrives_once(tracked: Workspace, proxy: FaultProxy, fault: Fault) -> None:
    proxy.set(fault)
    run_study(tracked)
    ensure_tracker(tracked.store, tracked.settings)
    eventually(lambda: proxy.met, within=PATIENCE_S)
    if fault != "slow":
        assert tracked.studies.read.status("study").tracking.pending == N_TRIALS + 2

    proxy.set("none")

    def arrived() -> bool:
        ensure_tracker(tracked.store, tracked.settings)
        return tracked.studies.read.status("study").tracking.pending == 0

    eventually(arrived, within=PATIENCE_S)
    check(tracked, N_TRIALS)
