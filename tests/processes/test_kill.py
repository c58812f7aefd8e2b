"""kill -9 of each process in the middle of a study: nothing that finished is lost, nothing runs twice or for ever."""

import os
import signal
import sqlite3
import sys
from collections import Counter
from collections.abc import Iterator
from contextlib import closing, suppress
from pathlib import Path

import anyio
import optuna
import psutil
import pytest
from mcp import Client, MCPError, StdioServerParameters
from sqlalchemy import insert, select, update

from mcp_server.health import check_invariants
from mcp_server.settings import Settings
from mcp_server.store.schema import attempts, studies, trials
from mcp_server.studies.placement import spawn_runner
from mcp_server.workspace import Workspace
from tests.conftest import eventually
from tests.studies.running import callable_spec

OBJECTIVES = str(Path(__file__).parent.parent / "studies")

pytestmark = pytest.mark.process


@pytest.fixture
def live(settings: Settings) -> Iterator[Workspace]:
    """A workspace whose studies run in detached processes; all of them are gone afterwards."""
    with Workspace(settings) as opened:
        yield opened
    for process in related(settings.workspace):
        with suppress(psutil.NoSuchProcess):
            process.kill()


def related(folder: Path) -> list[psutil.Process]:
    """Processes that work for the workspace in `folder`, with all they started."""
    found = [p for p in psutil.process_iter() if str(folder) in " ".join(_command(p))]
    return list({q.pid: q for p in found for q in (p, *_children(p))}.values())


def _command(process: psutil.Process) -> list[str]:
    try:
        return process.cmdline()
    except psutil.Error:
        return []


def _children(process: psutil.Process) -> list[psutil.Process]:
    try:
        return process.children(recursive=True)
    except psutil.Error:
        return []


def runner_of(workspace: Workspace) -> psutil.Process | None:
    mine = [p for p in related(workspace.settings.workspace) if "mcp_server.studies" in _command(p)]
    return mine[0] if mine else None


def start_held(live: Workspace, folder: Path, *, hold: int, n_trials: int = 6, objective: str = "gated") -> list[int]:
    """Start a study whose trials from `hold` on wait; the pids of the two workers that do."""
    folder.mkdir(exist_ok=True)
    payload = {"folder": str(folder), "hold": hold}
    spec = callable_spec(
        objective=f"study_objectives:{objective}", python_path=[OBJECTIVES], n_trials=n_trials, parallel=2,
        sampler="random", payload=payload,
    )  # fmt: skip
    live.studies.start(spec, "tester")
    eventually(lambda: len(list(folder.glob("pid-*"))) == 2)
    return [int(file.name.split("-")[2]) for file in folder.glob("pid-*")]


def finish(live: Workspace, folder: Path, n_trials: int = 6) -> None:
    """Let the trials go, wait for the end, and check everything that must hold then."""
    (folder / "go").touch()
    eventually(lambda: live.studies.revive() or live.studies.read.status("study").state == "finished")
    eventually(lambda: live.studies.read.status("study").state == "finished")
    status = live.studies.read.status("study")
    assert (status.n_complete, status.n_running, status.n_failed) == (n_trials, 0, 0)
    assert sorted(Counter((folder / "calls.txt").read_text().split())) == sorted(map(str, range(n_trials)))
    with live.store.read() as connection:
        assert "running" not in set(connection.scalars(select(attempts.c.state)))
    eventually(lambda: not any("mcp_server.studies" in _command(p) for p in related(live.settings.workspace)))
    known = optuna.load_study(
        study_name="study", storage=f"sqlite:///{live.settings.workspace / 'optuna.db'}"
    ).get_trials()
    assert [(t.number, t.state.name) for t in known] == [(i, "COMPLETE") for i in range(n_trials)]
    assert check_invariants(live) == []


def test_a_killed_worker_costs_one_attempt_and_no_trial(live: Workspace, tmp_path: Path) -> None:
    victim, _ = start_held(live, tmp_path / "held", hold=2)

    os.kill(victim, signal.SIGKILL)

    finish(live, tmp_path / "held")
    assert Counter(job.state for job in live.studies.read.jobs("study")) == {"completed": 6, "lost": 1}


def test_a_killed_runner_takes_its_workers_along_and_is_revived(live: Workspace, tmp_path: Path) -> None:
    workers = start_held(live, tmp_path / "held", hold=2)
    runner = runner_of(live)
    assert runner is not None

    runner.kill()

    eventually(lambda: not any(psutil.pid_exists(pid) for pid in workers))
    finish(live, tmp_path / "held")
    states = Counter(job.state for job in live.studies.read.jobs("study"))
    assert states == {"completed": 6, "lost": 2}


def test_a_runner_that_is_killed_again_and_again_poisons_no_trial(live: Workspace, tmp_path: Path) -> None:
    start_held(live, tmp_path / "held", hold=2)
    for _ in range(3):
        runner = eventually(lambda: runner_of(live))
        assert isinstance(runner, psutil.Process)
        for file in (tmp_path / "held").glob("pid-*"):
            file.unlink()
        runner.kill()
        runner.wait(30)
        eventually(live.studies.revive)
        eventually(lambda: len(list((tmp_path / "held").glob("pid-*"))) == 2)

    finish(live, tmp_path / "held")


def test_the_process_that_workers_come_from_may_be_killed_again_and_again(live: Workspace, tmp_path: Path) -> None:
    start_held(live, tmp_path / "held", hold=2)
    for _ in range(4):
        runner = runner_of(live)
        assert runner is not None
        (starter,) = [p for p in runner.children() if "mcp_server.execution.fork_server" in _command(p)]
        for file in (tmp_path / "held").glob("pid-*"):
            file.unlink()
        starter.kill()
        eventually(lambda: len(list((tmp_path / "held").glob("pid-*"))) == 2)

    finish(live, tmp_path / "held")
    assert Counter(job.state for job in live.studies.read.jobs("study")) == {"completed": 6, "lost": 8}


def test_only_one_runner_works_on_a_study(live: Workspace, tmp_path: Path) -> None:
    start_held(live, tmp_path / "held", hold=2)
    with live.store.read() as connection:
        study_id = connection.scalars(select(studies.c.id)).one()

    second = spawn_runner(live.settings.workspace, study_id)

    eventually(lambda: not psutil.pid_exists(second) or psutil.Process(second).status() == psutil.STATUS_ZOMBIE)
    finish(live, tmp_path / "held")
    assert Counter((tmp_path / "held" / "calls.txt").read_text().split()) == {str(i): 1 for i in range(6)}


def test_a_trial_over_its_time_limit_is_killed_and_recorded(live: Workspace, tmp_path: Path) -> None:
    spec = callable_spec(
        objective="study_objectives:sleeps_forever", python_path=[OBJECTIVES], n_trials=2, parallel=2,
        payload={"folder": str(tmp_path)}, trial_timeout_s=0.5, sampler="random",
    )  # fmt: skip
    live.studies.start(spec, "tester")

    eventually(lambda: live.studies.read.status("study").state in {"finished", "failed"})

    status = live.studies.read.status("study")
    assert status.failures == {"timeout": 2}
    assert {t.error for t in live.studies.read.trials("study")} == {"the trial took longer than 0.5 s"}
    pids = [int(file.name.split("-")[2]) for file in tmp_path.glob("pid-*")]
    eventually(lambda: not any(psutil.pid_exists(pid) for pid in pids))


def test_stop_ends_the_trials_that_run(live: Workspace, tmp_path: Path) -> None:
    workers = start_held(live, tmp_path / "held", hold=0, objective="sleeps_forever")

    live.studies.control("study", "stop", "tester")

    eventually(lambda: live.studies.read.status("study").state == "stopped")
    assert live.studies.read.status("study").failures == {"cancelled": 2}
    eventually(lambda: not any(psutil.pid_exists(pid) for pid in workers))


def test_pause_lets_running_trials_end_and_starts_no_other(live: Workspace, tmp_path: Path) -> None:
    start_held(live, tmp_path / "held", hold=2)
    live.studies.control("study", "pause", "tester")
    (tmp_path / "held" / "go").touch()

    eventually(lambda: live.studies.read.status("study").state == "paused")
    assert live.studies.read.status("study").n_complete == 4

    live.studies.control("study", "resume", "tester")
    finish(live, tmp_path / "held")


def test_the_training_process_knows_its_trial_and_its_share_of_the_cores(live: Workspace, tmp_path: Path) -> None:
    spec = callable_spec(
        objective="study_objectives:environment", python_path=[OBJECTIVES], n_trials=3, parallel=2,
        payload={"folder": str(tmp_path)}, sampler="random",
    )  # fmt: skip
    live.studies.start(spec, "tester")

    eventually(lambda: live.studies.read.status("study").state == "finished")

    seen = {file.stem: file.read_text() for file in tmp_path.glob("*.txt")}
    assert seen == {str(i): f"{i} 1 PASSIVE study" for i in range(3)}


def test_a_runner_with_a_bug_fails_its_study_with_the_reason_and_is_not_revived(settings: Settings) -> None:
    with Workspace(settings, launch=lambda *_: None) as waiting:
        waiting.studies.start(callable_spec(objective="noop"), "tester")
        with waiting.store.write() as connection:  # what no runner expects: a number that is taken already
            study_id = connection.scalars(select(studies.c.id)).one()
            row = {"study_id": study_id, "number": 5, "state": "failed", "source": "sampler", "params": {}}
            connection.execute(insert(trials).values(**row, optuna_number=5, started_at=1.0))

    with Workspace(settings) as live:
        assert live.studies.revive() == ["study"]
        eventually(lambda: live.studies.read.status("study").state == "failed")

        status = live.studies.read.status("study")
        assert status.stop_reason == "internal_error"
        assert "internal error in the runner" in (status.error or "")
        assert live.studies.revive() == []


def test_a_study_that_cannot_be_read_is_failed_and_not_revived(settings: Settings) -> None:
    with Workspace(settings, launch=lambda *_: None) as waiting:
        waiting.studies.start(callable_spec(objective="noop"), "tester")
        with waiting.store.write() as connection:  # as another version may have written it
            connection.execute(update(studies).values(spec={"made": "elsewhere"}))

    with Workspace(settings) as live:
        assert live.studies.revive() == ["study"]

        def found() -> tuple[str, str] | None:
            with live.store.read() as connection:
                state, error = connection.execute(select(studies.c.state, studies.c.error)).one()
            return (state, error) if state == "failed" else None

        assert "cannot be read" in str(eventually(found))
        assert live.studies.revive() == []


@pytest.mark.anyio
async def test_a_killed_server_leaves_its_study_running(settings: Settings, tmp_path: Path) -> None:
    command = ["-m", "mcp_server", "serve", "--workspace", str(settings.workspace)]
    server = StdioServerParameters(command=sys.executable, args=command)
    request = {"study_name": "served", "data": "sklearn:wine", "target": "target", "estimator": "knn", "n_trials": 12}
    with suppress(ExceptionGroup, MCPError), anyio.fail_after(60):
        async with Client(server) as client:
            started = await client.call_tool("start_automl_study", request)
            assert not started.is_error
            for process in related(settings.workspace):
                if "serve" in _command(process):
                    process.kill()

    with Workspace(settings) as opened:
        eventually(lambda: opened.studies.read.status("served").state == "finished")
        status = opened.studies.read.status("served")
        assert status.n_complete + status.n_pruned == 12
        assert {job.state for job in opened.studies.read.jobs("served")} <= {"completed", "pruned"}, "nothing was lost"


def test_what_is_ordered_while_the_runner_goes_is_not_forgotten(settings: Settings, tmp_path: Path) -> None:
    with Workspace(settings, launch=lambda *_: None) as alone:  # nobody starts a second runner from outside
        spec = callable_spec(
            objective="study_objectives:gated", python_path=[OBJECTIVES], n_trials=1, sampler="random",
            payload={"folder": str(tmp_path), "hold": 0},
        )  # fmt: skip
        alone.studies.start(spec, "tester")
        with alone.store.read() as connection:
            study_id = connection.scalars(select(studies.c.id)).one()
        spawn_runner(settings.workspace, study_id)
        eventually(lambda: list(tmp_path.glob("pid-*")))
        with closing(sqlite3.connect(settings.workspace / "optuna.db", isolation_level=None)) as busy:
            busy.execute("BEGIN IMMEDIATE")  # the runner cannot leave before Optuna's file is written
            (tmp_path / "go").touch()
            eventually(lambda: alone.studies.read.status("study").state == "finished")
            alone.studies.control("study", "extend", "tester", n_trials=3)
            busy.execute("ROLLBACK")

        eventually(lambda: alone.studies.read.status("study").n_complete == 3)
        eventually(lambda: alone.studies.read.status("study").state == "finished")


def test_a_stop_reaches_a_study_whose_runner_was_killed(live: Workspace, tmp_path: Path) -> None:
    start_held(live, tmp_path / "held", hold=0)
    runner = runner_of(live)
    assert runner is not None
    runner.kill()
    runner.wait(30)

    live.studies.control("study", "stop", "tester")

    eventually(lambda: live.studies.read.status("study").state == "stopped")
    assert live.studies.read.status("study").n_running == 0


def test_studies_that_start_at_once_on_a_fresh_workspace_all_run(live: Workspace) -> None:
    for i in range(4):
        live.studies.start(callable_spec(f"study {i}", objective="noop", n_trials=2, parallel=1), "tester")

    names = [f"study {i}" for i in range(4)]
    eventually(lambda: all(live.studies.read.status(name).state in {"finished", "failed"} for name in names))

    assert {name: live.studies.read.status(name).error for name in names} == dict.fromkeys(names)
    assert {live.studies.read.status(name).state for name in names} == {"finished"}


def test_a_machine_that_sleeps_in_the_middle_of_a_study_loses_nothing(live: Workspace, tmp_path: Path) -> None:
    workers = start_held(live, tmp_path / "held", hold=2)
    runner = runner_of(live)
    assert runner is not None
    asleep = [runner, *(psutil.Process(pid) for pid in workers)]

    for process in asleep:
        process.suspend()
    (tmp_path / "held" / "go").touch()
    assert live.studies.revive() == [], "a sleeping runner still holds its study"
    assert live.studies.read.status("study").n_running == 2
    for process in asleep:
        process.resume()

    finish(live, tmp_path / "held")
    assert {job.state for job in live.studies.read.jobs("study")} == {"completed"}


def test_what_trials_cost_counts_against_the_budget_at_the_price_that_the_caller_has(settings: Settings) -> None:
    priced = settings.model_copy(update={"usd_per_cpu_hour": 3600.0})
    with Workspace(priced) as opened:
        spec = callable_spec(objective="noop", n_trials=500, cost_budget_usd=1e-6)
        opened.studies.start(spec, "tester")
        eventually(lambda: opened.studies.read.status("study").state == "stopped")
        status = opened.studies.read.status("study")
        assert (status.stop_reason, status.n_complete) == ("budget", 1), "what the first one costs nobody can know"
        assert status.cost_usd > 0
