"""Studies steered from a terminal: with and without a server, with and without a runner."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from mcp_server import cli
from mcp_server.errors import ConflictError, NotFoundError, StudyFinishedError
from mcp_server.studies.placement import runner_lock, study_folder
from mcp_server.workspace import Workspace
from tests.cli.test_status import run
from tests.conftest import eventually
from tests.health.test_invariants import study_id
from tests.processes.test_kill import live, runner_of, start_held

__all__ = ["live"]


def state(workspace: Workspace) -> str:
    return workspace.studies.read.status("study").state


def kill_runner(workspace: Workspace) -> None:
    runner_of(workspace).kill()
    eventually(runner_lock(workspace.settings.workspace, study_id(workspace)).is_free)


@pytest.mark.process
def test_a_study_is_paused_resumed_and_stopped_without_a_server(live: Workspace, tmp_path: Path) -> None:
    start_held(live, tmp_path / "held", hold=2, n_trials=1000)

    assert "study: told to pause" in run(live, "pause", "study").output
    (tmp_path / "held" / "go").touch()
    eventually(lambda: state(live) == "paused")
    (tmp_path / "held" / "go").unlink()
    for file in (tmp_path / "held").glob("pid-*"):
        file.unlink()

    assert "study: goes on." in run(live, "resume", "study").output
    eventually(lambda: list((tmp_path / "held").glob("pid-*")))
    stopped = run(live, "stop", "study", "--wait-s", "45").output

    assert "study: told to stop" in stopped
    assert f"study: {live.studies.read.status('study').message}" in stopped
    assert (state(live), live.studies.read.status("study").stop_reason) == ("stopped", "user")


@pytest.mark.process
def test_a_study_that_is_drained_stops_when_its_running_trials_have_ended(live: Workspace, tmp_path: Path) -> None:
    start_held(live, tmp_path / "held", hold=2, n_trials=1000)

    assert "study: told to stop; what runs may end." in run(live, "stop", "study", "--drain").output
    (tmp_path / "held" / "go").touch()
    eventually(lambda: state(live) == "stopped")

    status = live.studies.read.status("study")
    assert (status.stop_reason, status.n_failed) == ("user", 0)
    assert status.n_complete >= 4


@pytest.mark.process
def test_a_study_whose_runner_was_killed_is_stopped_all_the_same(live: Workspace, tmp_path: Path) -> None:
    start_held(live, tmp_path / "held", hold=2)
    kill_runner(live)

    run(live, "stop", "study", "--wait-s", "45")

    assert state(live) == "stopped"


@pytest.mark.process
def test_a_study_whose_runner_was_killed_is_shown_as_such_and_resumed(live: Workspace, tmp_path: Path) -> None:
    start_held(live, tmp_path / "held", hold=2, n_trials=4)
    kill_runner(live)
    nobody = "Nobody runs study: tuning-mcp resume study goes on with it"

    assert nobody in run(live, "status").output
    assert nobody in run(live, "status", "study").output
    (tmp_path / "held" / "go").touch()
    assert "study: nobody ran it; it has a new runner." in run(live, "resume", "study").output
    eventually(lambda: state(live) == "finished")
    assert "Nobody runs" not in run(live, "status").output


@pytest.mark.process
def test_logs_follow_a_study_to_its_end(live: Workspace, tmp_path: Path) -> None:
    start_held(live, tmp_path / "held", hold=2, n_trials=4)
    command = [sys.executable, "-m", "mcp_server", "logs", "study", "--events", "--follow"]
    follower = subprocess.Popen(
        [*command, "--workspace", str(live.settings.workspace)], stdout=subprocess.PIPE, text=True
    )
    first = follower.stdout.readline()
    (tmp_path / "held" / "go").touch()
    with follower.stdout:
        lines = [first.rstrip(), *(line.rstrip() for line in follower.stdout)]

    assert " created by tester " in first
    assert [line.split()[2] for line in lines].count("trial_ended") == 4
    assert lines[-1].endswith(' ended by runner {"state": "finished", "reason": "trials"}')
    assert follower.wait() == 0


def test_the_log_of_a_trial_has_every_attempt_and_its_last_words(finished: Workspace) -> None:
    (job, *_) = finished.studies.read.jobs("study")
    Path(job.log_path).parent.mkdir(parents=True, exist_ok=True)
    Path(job.log_path).write_text("epoch 1\nepoch 2\nno newline", encoding="utf-8")

    told = run(finished, "logs", "study", "--trial", "0").output.splitlines()

    assert told == [f"--- trial 0, attempt 0: {job.log_path}", "epoch 1", "epoch 2", "no newline"]
    assert run(finished, "logs", "study", "--trial", "0", "--lines", "1").output == "no newline\n"
    assert run(finished, "logs", "study", "--trial", "0", "--follow").output.splitlines() == told


def test_the_runner_s_log_is_the_one_that_is_shown(finished: Workspace) -> None:
    folder = study_folder(finished.settings.workspace, study_id(finished))
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "runner.log").write_text('{"event": "study ended"}\n', encoding="utf-8")

    assert run(finished, "logs", "study").output == '{"event": "study ended"}\n'


def test_the_events_of_one_trial_are_told(finished: Workspace) -> None:
    (told,) = run(finished, "logs", "study", "--events", "--trial", "1").output.splitlines()

    assert told.split()[2] == "trial_ended"
    assert json.loads(told[told.index("{") :])["state"] == "complete"


@pytest.mark.parametrize(
    ("arguments", "error"),
    [
        (["stop", "nobody"], NotFoundError),
        (["logs", "nobody"], NotFoundError),
        (["logs", "study", "--trial", "99"], NotFoundError),
        (["stop", "study"], StudyFinishedError),
        (["pause", "study"], StudyFinishedError),
        (["resume", "study"], ConflictError),
    ],
)
def test_what_cannot_be_done_is_an_error_that_names_the_next_step(
    finished: Workspace, arguments: list[str], error: type[Exception]
) -> None:
    result = run(finished, *arguments)

    assert isinstance(result.exception, error)
    assert result.exception.hint


def test_an_error_ends_the_command_with_code_2_and_one_line(
    finished: Workspace, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    line = ["tuning-mcp", "stop", "study", "--workspace", str(finished.settings.workspace)]
    monkeypatch.setattr("sys.argv", line)

    with pytest.raises(SystemExit) as ended:
        cli.main()

    told = capsys.readouterr()
    assert (ended.value.code, told.out) == (2, "")
    assert told.err.startswith("tuning-mcp: Study 'study' has ended already (finished).")
    assert len(told.err.splitlines()) == 1
