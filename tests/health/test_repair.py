"""What doctor can put right is right afterwards; finished results stay, and a second time changes nothing."""

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from sqlalchemy import delete, select, update
from typer.testing import CliRunner

from mcp_server.cli import application
from mcp_server.errors import ConflictError
from mcp_server.health import check_invariants, repairs
from mcp_server.store import KernelLock
from mcp_server.store.schema import attempts, events, trials
from mcp_server.studies.placement import runner_lock
from mcp_server.workspace import Workspace
from tests.conftest import eventually
from tests.health.conftest import deliver
from tests.health.test_invariants import PLANTED, left_behind, stored, study_id
from tests.processes.test_kill import live, runner_of, start_held

__all__ = ["left_behind", "live"]


def mlflow_is_deleted(workspace: Workspace, migrated: Path) -> None:
    for path in workspace.settings.workspace.glob("mlflow.db*"):
        path.unlink()
    shutil.copyfile(migrated, workspace.settings.workspace / "mlflow.db")


REPAIRABLE = [
    "Optuna lacks the study",
    "Optuna lacks the trials",
    "Optuna has another value",
    "Optuna has another parameter",
    "Optuna has a trial more",
    "Optuna has a number twice",
    "MLflow is not told",
    "MLflow refused",
    "an MLflow run is gone",
    "the study's MLflow run is gone",
    "MLflow has another status",
    "an attempt without a runner",
    "a trial that runs in Optuna",
    "a trial that runs in MLflow",
    "a study that runs in MLflow",
    "an old draft",
    "a link to temporary files that are gone",
    "half a database",
    "a folder without a study",
    "a trial's long log",
    "a damaged database",
]


@pytest.fixture(autouse=True)
def no_tracker(tmp_path: Path) -> Iterator[None]:
    """Tests deliver here and now: no tracker gets the lock of the workspace that `healthy` copies."""
    with KernelLock(tmp_path / "workspace" / "tracker.lock"):
        yield


def results(workspace: Workspace) -> list[tuple]:
    return [(t.number, t.state, t.value, t.params) for t in workspace.studies.read.trials("study")]


def repair_all(workspace: Workspace) -> list[str]:
    plan = repairs(workspace, check_invariants(workspace))
    for step in plan:
        step.apply()
    return [step.text for step in plan]


def repaired(workspace: Workspace) -> list[str]:
    with workspace.store.read() as connection:
        return [e.detail["what"] for e in connection.execute(select(events).where(events.c.kind == "repaired"))]


@pytest.mark.parametrize("planted", REPAIRABLE)
def test_what_can_be_repaired_is_right_afterwards_and_results_stay(healthy: Workspace, planted: str) -> None:
    before = results(healthy)
    PLANTED[planted][2](healthy)

    assert repair_all(healthy) != []
    deliver(healthy)

    assert check_invariants(healthy, settled=True) == []
    assert results(healthy) == before
    assert repair_all(healthy) == []


def test_a_deleted_mlflow_database_is_filled_again_with_one_run_for_each_trial(
    healthy: Workspace, migrated: Path
) -> None:
    before = {run.uid: (run.status, run.params, run.metrics) for run in stored(healthy)}
    mlflow_is_deleted(healthy, migrated)

    repair_all(healthy)
    deliver(healthy)

    assert {run.uid: (run.status, run.params, run.metrics) for run in stored(healthy)} == before
    assert len(stored(healthy)) == len(before)
    assert check_invariants(healthy, settled=True) == []


def test_trials_that_run_in_a_study_that_ended_are_closed_and_told_to_mlflow(healthy: Workspace) -> None:
    with healthy.store.write() as connection:
        failed = connection.scalar(select(trials.c.number).where(trials.c.state == "failed").limit(1))
        here = (trials.c.number == failed, attempts.c.number == failed)
        connection.execute(update(trials).where(here[0]).values(state="running", ended_at=None, error=None, cause=None))
        connection.execute(update(attempts).where(here[1]).values(state="running", ended_at=None))
        connection.execute(delete(events).where(events.c.number == failed, events.c.kind == "trial_ended"))

    repair_all(healthy)

    (trial,) = [t for t in healthy.studies.read.trials("study") if t.number == failed]
    assert (trial.state, trial.cause) == ("failed", "cancelled")
    assert "closed" in repaired(healthy)
    assert [v for v in check_invariants(healthy) if v.invariant in {"I2", "I3", "I5"}] == []


def test_a_process_that_outlived_its_runner_is_killed(healthy: Workspace, left_behind) -> None:
    assert repair_all(healthy) == [f"Kill process {left_behind.pid}, which outlived its runner."]

    left_behind.wait(timeout=60)
    assert check_invariants(healthy) == []


def test_a_study_that_a_runner_has_is_left_to_it(healthy: Workspace) -> None:
    PLANTED["Optuna has another value"][2](healthy)
    (step,) = repairs(healthy, check_invariants(healthy))

    with runner_lock(healthy.settings.workspace, study_id(healthy)), pytest.raises(ConflictError, match="A runner has"):
        step.apply()


def test_a_damaged_optuna_file_is_kept_aside(healthy: Workspace) -> None:
    PLANTED["a damaged database"][2](healthy)
    repair_all(healthy)

    (kept,) = healthy.settings.workspace.glob("damaged-*-optuna.db")
    assert kept.read_bytes().startswith(b"not a database")


def test_every_repair_is_on_record(healthy: Workspace) -> None:
    for planted in ("Optuna has another value", "MLflow refused", "half a database"):
        PLANTED[planted][2](healthy)
    repair_all(healthy)

    assert sorted(repaired(healthy)) == ["delivered again", "written to optuna.db anew"]
    assert '"tool":"doctor"' in healthy.audit.path.read_text(encoding="utf-8").splitlines()[-1]


def run(workspace: Workspace, *arguments: str, answer: str | None = None):
    line = ["doctor", *arguments, "--workspace", str(workspace.settings.workspace)]
    return CliRunner().invoke(application(), line, input=answer)


def test_nothing_is_repaired_before_somebody_says_so(healthy: Workspace) -> None:
    PLANTED["half a database"][2](healthy)
    half = healthy.settings.workspace / "mlflow.db.new"

    refused = run(healthy, "--repair", answer="n\n")
    assert (refused.exit_code, half.exists()) == (1, True)
    assert f"plan  Remove {half}." in refused.output

    accepted = run(healthy, "--repair", answer="y\n")
    assert (accepted.exit_code, half.exists()) == (0, False), accepted.output
    assert f"done  Remove {half}." in accepted.output
    assert "Nothing can be repaired." in run(healthy, "--repair").output


@pytest.mark.process
def test_doctor_finds_nothing_while_a_study_runs_and_revives_one_whose_runner_was_killed(
    live: Workspace, tmp_path: Path
) -> None:
    start_held(live, tmp_path / "held", hold=2, n_trials=4)
    assert check_invariants(live) == []

    runner_of(live).kill()
    free = runner_lock(live.settings.workspace, study_id(live)).is_free
    eventually(free)
    found = check_invariants(live)
    assert {(v.invariant, v.remedy) for v in found if v.invariant != "I6"} == {("I5", "revive")}

    (tmp_path / "held" / "go").touch()
    assert "done  Start a runner for study." in run(live, "--repair", "--yes").output
    eventually(lambda: live.studies.read.status("study").state == "finished" and free())
    assert repaired(live) == ["revived"]
    assert check_invariants(live) == []
