"""A team's database server that crashes or cuts connections during a study: nothing is lost or done twice."""

from collections.abc import Iterator
from contextlib import suppress

import psutil
import pytest
from pydantic import SecretStr

from mcp_server.health import check_invariants
from mcp_server.settings import Settings
from mcp_server.workspace import Workspace
from tests.conftest import eventually
from tests.postgres import Server
from tests.processes.test_kill import related
from tests.studies.running import callable_spec

pytestmark = pytest.mark.process
TRIALS = 40


@pytest.fixture
def team(settings: Settings, postgres: Server) -> Iterator[Workspace]:
    """A workspace on the server whose studies run in detached processes; all of them are gone afterwards."""
    with Workspace(settings.model_copy(update={"database_url": SecretStr(postgres.fresh_url())})) as opened:
        yield opened
    for process in related(settings.workspace):
        with suppress(psutil.NoSuchProcess):
            process.kill()


def begin(workspace: Workspace, n_trials: int) -> None:
    spec = callable_spec(n_trials=n_trials, parallel=2, sampler="random", preload=["mcp_server.testing.objectives"])
    workspace.studies.start(spec, "ann")


def ended(workspace: Workspace) -> int:
    return workspace.studies.read.status("study").n_complete


def has_run(workspace: Workspace, n_trials: int) -> None:
    status = workspace.studies.read.status("study")
    assert (status.state, status.n_complete, status.n_failed, status.n_running) == ("finished", n_trials, 0, 0)
    jobs = workspace.studies.read.jobs("study")
    assert [(job.trial, job.attempt) for job in sorted(jobs, key=lambda job: job.trial)] == [
        (number, 0) for number in range(n_trials)
    ]
    assert workspace.settings.environment()["TUNING_DATABASE_URL"].startswith("postgresql://")
    assert not (workspace.settings.workspace / "workspace.db").exists()
    eventually(lambda: workspace.studies.read.status("study").tracking.synced)
    assert check_invariants(workspace, settled=True) == []


def test_a_study_outlives_three_crashes_of_the_database_server(team: Workspace, postgres: Server) -> None:
    begin(team, TRIALS)
    for crash in range(3):
        eventually(lambda crash=crash: ended(team) >= 5 * (crash + 1))
        postgres.stop("immediate")
        postgres.start()
    eventually(lambda: team.studies.read.status("study").state == "finished")

    has_run(team, TRIALS)


def test_a_study_outlives_connections_that_are_cut(team: Workspace, postgres: Server) -> None:
    begin(team, TRIALS)
    cut = 0
    while ended(team) < TRIALS:
        found = postgres.execute(
            "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity WHERE application_name = 'tuning-mcp'"
        )
        cut += int(str(found[0][0]))
        done = ended(team)
        eventually(lambda done=done: ended(team) > min(done + 3, TRIALS - 1))
    eventually(lambda: team.studies.read.status("study").state == "finished")

    assert cut >= 3
    has_run(team, TRIALS)


@pytest.mark.nightly
def test_a_long_study_outlives_thirty_crashes_of_the_database_server(team: Workspace, postgres: Server) -> None:
    begin(team, 400)
    for crash in range(30):
        eventually(lambda crash=crash: ended(team) >= 10 * (crash + 1))
        postgres.stop("immediate")
        postgres.start()
    eventually(lambda: team.studies.read.status("study").state == "finished")

    has_run(team, 400)


def test_the_password_of_the_database_is_in_no_log(team: Workspace, postgres: Server) -> None:
    begin(team, 2)
    eventually(lambda: ended(team) == 2)
    eventually(lambda: team.studies.read.status("study").tracking.synced)

    texts = [path.read_bytes() for path in team.settings.workspace.rglob("*") if path.is_file()]
    assert texts
    assert not any(postgres.PASSWORD.encode() in text for text in texts)
