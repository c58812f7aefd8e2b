"""The clock of one process jumps, or a machine sleeps, in the middle of a study: no trial fails, and budgets hold."""

import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psutil
import pytest

from mcp_server.workspace import Workspace
from tests.conftest import eventually
from tests.faults import clocks
from tests.faults.conftest import at_work, check, faulty_spec, settle

pytestmark = pytest.mark.process

N_TRIALS = 12
LIMIT_S = 600.0


@contextmanager
def server(workspace: Workspace) -> Iterator[None]:
    """A server on the workspace, which starts what is missing."""
    command = [sys.executable, "-m", "mcp_server", "serve", "--workspace", str(workspace.settings.workspace)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as one:
        yield
        one.kill()


def run_with_jump(live: Workspace, proof: Path) -> None:
    """A study from its start by a server to its arrival in MLflow."""
    spec = faulty_spec("short", n_trials=N_TRIALS, parallel=2, timeout_s=LIMIT_S, trial_timeout_s=LIMIT_S)
    with Workspace(live.settings, launch=lambda *_: None) as quiet:
        quiet.studies.start(spec, "tester")
    elapsed: list[float] = []

    def ended() -> bool:
        status = live.studies.read.status("study")
        elapsed.append(status.elapsed_s)
        return status.state not in {"queued", "running"} and status.tracking.synced

    with server(live):
        eventually(ended)
    assert proof.exists(), "no clock jumped"
    assert elapsed == sorted(elapsed)
    assert elapsed[-1] < LIMIT_S
    settle(live)
    check(live, N_TRIALS)
    jobs = live.studies.read.jobs("study")
    assert {job.state for job in jobs} == {"completed"}
    assert len(jobs) == N_TRIALS


@pytest.fixture
def jump(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    role, how = request.param
    proof = tmp_path / "jumped"
    for name, value in clocks.environment(role, clocks.JUMPS_S[how], proof).items():
        monkeypatch.setenv(name, value)
    return proof


SOME = [("runner", "an hour back")]
ALL = [(role, how) for role in clocks.WORD for how in clocks.JUMPS_S]


@pytest.mark.parametrize("jump", SOME, ids=" ".join, indirect=True)
def test_a_clock_that_jumps_fails_no_trial(live: Workspace, jump: Path) -> None:
    run_with_jump(live, jump)


@pytest.mark.nightly
@pytest.mark.parametrize("jump", [one for one in ALL if one not in SOME], ids=" ".join, indirect=True)
def test_no_clock_of_any_process_fails_a_trial(live: Workspace, jump: Path) -> None:
    run_with_jump(live, jump)


@pytest.mark.parametrize("seconds", [2, pytest.param(60, marks=pytest.mark.nightly)])
def test_a_runner_and_workers_that_stand_still_for_a_while_lose_nothing(live: Workspace, seconds: int) -> None:
    live.studies.start(faulty_spec("short", n_trials=N_TRIALS, parallel=2, trial_timeout_s=LIMIT_S), "tester")
    eventually(lambda: live.studies.read.status("study").n_complete)
    root = live.settings.workspace
    still = [p for p in at_work(root) if "mcp_server.tracking" not in p.cmdline() and p.pid != psutil.Process().pid]
    for process in still:
        process.suspend()
    until = time.monotonic() + seconds
    while time.monotonic() < until:  # as servers of the workspace would look after it
        assert live.studies.revive() == [], "one that stands still holds its study"
        time.sleep(0.2)
    for process in still:
        process.resume()

    eventually(lambda: live.studies.read.status("study").state == "finished")
    settle(live)
    check(live, N_TRIALS)
    assert [job.state for job in live.studies.read.jobs("study")] == ["completed"] * N_TRIALS
