"""Each invariant finds a violation that is planted, and none in a workspace where everything is right."""

import json
import os
import sqlite3
import subprocess
import sys
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import pytest
from sqlalchemy import delete, func, insert, select, update

from mcp_server.access import Principal, Role
from mcp_server.execution.run_folder import RunFolder
from mcp_server.health import PROMISES, check_invariants
from mcp_server.processes import OWNER
from mcp_server.store.schema import attempts, events, outbox, studies, trials
from mcp_server.studies.placement import runner_lock, study_folder
from mcp_server.studies.removal import forget, marked
from mcp_server.tracking.inventory import runs_in_file, runs_of_client
from mcp_server.tracking.mlflow import open_client
from mcp_server.tracking.target import tracking_target
from mcp_server.workspace import Workspace
from tests.health.conftest import call_a_tool, deliver


def rows(statement) -> Callable[[Workspace], None]:
    def plant(workspace: Workspace) -> None:
        with workspace.store.write() as connection:
            connection.execute(statement)

    return plant


def sql(name: str, *statements: str) -> Callable[[Workspace], None]:
    def plant(workspace: Workspace) -> None:
        with closing(sqlite3.connect(workspace.settings.workspace / name)) as raw, raw:
            for statement in statements:
                assert raw.execute(statement).rowcount != 0

    return plant


NO_TRIALS = ("DELETE FROM trial_params", "DELETE FROM trial_values", "DELETE FROM trials")


def record_of(workspace: Workspace, kind: str, change: Callable[[dict], None]) -> None:
    with workspace.store.write() as connection:
        row = connection.execute(select(outbox).where(outbox.c.kind == kind).order_by(outbox.c.id)).first()
        payload = json.loads(json.dumps(row.payload))
        change(payload)
        connection.execute(update(outbox).where(outbox.c.id == row.id).values(payload=payload))


def complete_number(workspace: Workspace) -> int:
    with workspace.store.read() as connection:
        return connection.scalar(select(func.min(trials.c.number)).where(trials.c.state == "complete"))


def study_id(workspace: Workspace) -> str:
    with workspace.store.read() as connection:
        return connection.scalar(select(studies.c.id))


def one_more_attempt(workspace: Workspace) -> None:
    row = {"study_id": study_id(workspace), "number": complete_number(workspace), "attempt": 1, "state": "completed",
           "log_path": "", "started_at": 0.0}  # fmt: skip
    rows(insert(attempts).values(row))(workspace)


def ended_again(workspace: Workspace) -> None:
    with workspace.store.write() as connection:
        row = connection.execute(select(events).where(events.c.kind == "trial_ended")).first()
        again = {key: value for key, value in row._mapping.items() if key != "id"}
        connection.execute(insert(events).values(again))


def lost_complete_trial(workspace: Workspace) -> None:
    rows(delete(trials).where(trials.c.number == complete_number(workspace)))(workspace)


def twice_in_mlflow(workspace: Workspace) -> None:
    (run,) = [r for r in stored(workspace) if r.uid.endswith("/0")]
    client = open_client(tracking_target(workspace.settings))
    copied = client.get_run(run.run_id)
    made = client.create_run(copied.info.experiment_id, tags=copied.data.tags)
    client.set_terminated(made.info.run_id)


def stored(workspace: Workspace):
    return runs_in_file(workspace.settings.workspace / "mlflow.db", study_id(workspace))


def audit_lines(change: Callable[[list[str]], list[str]]) -> Callable[[Workspace], None]:
    def plant(workspace: Workspace) -> None:
        workspace.audit.close()
        lines = workspace.audit.path.read_text(encoding="utf-8").splitlines(keepends=True)
        workspace.audit.path.write_text("".join(change(lines)), encoding="utf-8")

    return plant


def write(name: str, text: str) -> Callable[[Workspace], None]:
    def plant(workspace: Workspace) -> None:
        path = workspace.settings.workspace / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")

    return plant


def long_log(workspace: Workspace) -> None:
    path = study_folder(workspace.settings.workspace, study_id(workspace)) / "trials" / "00000-0.log"
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("wb") as file:
        file.truncate(5 * 2**20)


def damage_optuna(workspace: Workspace) -> None:
    (workspace.settings.workspace / "optuna.db").write_bytes(b"not a database" * 500)


def old_draft(workspace: Workspace) -> None:
    draft = workspace.settings.workspace / "data" / ".draft-x"
    draft.mkdir(parents=True)
    os.utime(draft, (1_000_000, 1_000_000))


def dangling_link(workspace: Workspace) -> None:
    """As a killed runner leaves it."""
    (workspace.settings.workspace / "studies").mkdir(exist_ok=True)
    folder = RunFolder(workspace.settings.workspace / "studies" / "s" / "files" / ("0" * 80))
    assert folder.link is not None
    folder.link.symlink_to(folder.path / "tmp")


def expensive(workspace: Workspace) -> None:
    with workspace.store.write() as connection:
        spec = connection.scalar(select(studies.c.spec))
        spec["spec"]["cost_budget_usd"] = 0.01
        connection.execute(update(studies).values(spec=spec))
        connection.execute(update(attempts).values(cost_usd=0.01))


PLANTED = {
    "a complete trial is gone": ("I1", "and is gone", lost_complete_trial),
    "a value was changed": ("I1", "it was recorded with", rows(update(trials).values(value=123.0))),
    "a study is gone": ("I1", "the study is gone", rows(delete(studies))),
    "a second final attempt": ("I2", "its final attempts are: completed, completed", one_more_attempt),
    "a second end": ("I2", "it ended 2 times", ended_again),
    "no final attempt": ("I2", "its final attempts are: none", rows(update(attempts).values(state="lost"))),
    "one trial too few": ("I3", "finished its 7 trials, and 6 have ended", rows(update(studies).values(n_trials=7))),
    "Optuna lacks the study": (
        "I4", "'study': optuna.db does not",
        sql("optuna.db", *NO_TRIALS, "DELETE FROM study_directions", "DELETE FROM studies"),
    ),
    "Optuna lacks the trials": (
        "I4", "optuna.db does not have it", sql("optuna.db", *NO_TRIALS),
    ),
    "Optuna has another value": ("I4", "has the value 77.0", sql("optuna.db", "UPDATE trial_values SET value = 77")),
    "Optuna has another parameter": (
        "I4", "has another x", sql("optuna.db", "UPDATE trial_params SET param_value = 1 WHERE param_name = 'x'"),
    ),
    "Optuna has a trial more": ("I4", "it was never run", sql("optuna.db", "INSERT INTO trials (number, study_id, state) VALUES (9, 1, 'FAIL')")),  # noqa: E501
    "Optuna has a number twice": ("I2", "optuna.db has it 2 times", sql("optuna.db", "UPDATE trials SET number = 0 WHERE number = 1")),  # noqa: E501
    "MLflow is not told": ("I4", "MLflow is not told of it", rows(delete(outbox).where(outbox.c.key.endswith("/0")))),
    "MLflow is told something else": (
        "I4", "says something else", lambda w: record_of(w, "trial", lambda payload: payload["params"].update(x=9.0)),
    ),
    "a record cannot be read": (
        "I4", "cannot be read", lambda w: record_of(w, "trial", lambda payload: payload.pop("metric")),
    ),
    "MLflow refused": ("I4", "MLflow refused it: full", rows(update(outbox).values(state="refused", error="full"))),
    "an MLflow run is gone": ("I4", "its MLflow run is gone", sql("mlflow.db", "DELETE FROM tags WHERE key = 'mcp.uid' AND value LIKE '%/0'")),  # noqa: E501
    "the study's MLflow run is gone": ("I4", "study 'study': its MLflow run is gone", sql("mlflow.db", "DELETE FROM tags WHERE key = 'mcp.uid' AND value NOT LIKE '%/%'")),  # noqa: E501
    "MLflow has a run twice": ("I4", "MLflow has 2 runs of it", twice_in_mlflow),
    "MLflow has another status": (
        "I4", "is KILLED, and should be FINISHED", sql("mlflow.db", "UPDATE runs SET status = 'KILLED'"),
    ),
    "MLflow has another parameter": (
        "I4", "has other parameters", sql("mlflow.db", "UPDATE params SET value = '8' WHERE key = 'x'"),
    ),
    "MLflow has another value": (
        "I4", "has another value", sql("mlflow.db", "UPDATE latest_metrics SET value = 8 WHERE key = 'final_metric'"),
    ),
    "a study without a runner": ("I5", "nobody runs it", rows(update(studies).values(state="running"))),
    "an attempt without a runner": ("I5", "its attempt is marked", rows(update(attempts).values(state="running"))),
    "a trial without a runner": (
        "I5", "marked as running in a study that is finished", rows(update(trials).values(state="running")),
    ),
    "a trial that runs in Optuna": (
        "I5", "optuna.db has it as running", sql("optuna.db", "UPDATE trials SET state = 'RUNNING'"),
    ),
    "a trial that runs in MLflow": (
        "I5", "trial 0: MLflow run", sql("mlflow.db", "UPDATE runs SET status = 'RUNNING'"),
    ),
    "a study that runs in MLflow": (
        "I5", "study 'study': MLflow run", sql("mlflow.db", "UPDATE runs SET status = 'RUNNING'"),
    ),
    "an old draft": ("I7", ".draft-x was left over", old_draft),
    "a link to temporary files that are gone": ("I7", "tuning-", dangling_link),
    "half a database": ("I7", "mlflow.db.new was left over", write("mlflow.db.new", "half")),
    "a folder without a study": ("I7", "has no study", write("studies/0123/trials/00000-0.log", "hello")),
    "a trial's long log": ("I7", "has 5.0 MiB, and 4 MiB are allowed", long_log),
    "a damaged database": ("I8", "optuna.db is damaged", damage_optuna),
    "a worse trial reported as the best": (
        "I9", "MLflow is told that 4.0 is the best",
        lambda w: record_of(w, "study_end", lambda payload: payload["metrics"].update(best_value=4.0)),
    ),
    "an audit line is gone": ("I10", "1 lines of writer", audit_lines(lambda lines: [lines[0], *lines[2:]])),
    "the first audit line is gone": ("I10", "are missing from audit.jsonl: 0", audit_lines(lambda lines: lines[1:])),
    "an audit line is cut": ("I10", "is cut off", audit_lines(lambda lines: [*lines[:-1], lines[-1][:40]])),
    "an audit line is garbled": ("I10", "line 2 of audit.jsonl cannot", audit_lines(lambda lines: [lines[0], "{nonsense\n", *lines[1:]])),  # noqa: E501
    "a trial too many": ("I11", "it has 6 trials, and 5 were allowed", rows(update(studies).values(n_trials=5))),
    "too much time": ("I11", "900.0 s, and 600 s were allowed", rows(update(studies).values(elapsed_s=900.0))),
    "too much money": ("I11", "and $0.01 were allowed", expensive),
}  # fmt: skip


def test_a_workspace_in_which_all_is_well_has_no_violation(healthy: Workspace) -> None:
    assert check_invariants(healthy, settled=True) == []


@pytest.mark.parametrize("planted", PLANTED)
def test_a_planted_violation_is_found_and_named(healthy: Workspace, planted: str) -> None:
    invariant, text, plant = PLANTED[planted]
    plant(healthy)

    found = check_invariants(healthy)

    assert [str(violation) for violation in found if violation.invariant == invariant and text in str(violation)] != []


def test_every_invariant_is_planted_or_has_a_test_of_its_own() -> None:
    assert {invariant for invariant, *_ in PLANTED.values()} | {"I6"} == set(PROMISES)


@pytest.fixture
def left_behind(healthy: Workspace):
    """A process that says whose it is, as all do that a runner started; its runner is gone."""
    folder = study_folder(healthy.settings.workspace, study_id(healthy))
    process = subprocess.Popen(
        [sys.executable, "-c", "print(flush=True); import time; time.sleep(600)"],
        env={**os.environ, OWNER: str(folder)},
        stdout=subprocess.PIPE,
    )
    process.stdout.readline()
    yield process
    process.kill()
    process.communicate()


def test_a_process_that_outlived_its_runner_is_found(healthy: Workspace, left_behind) -> None:
    (found,) = check_invariants(healthy)

    assert (found.invariant, found.study, found.subject) == ("I6", "study", str(left_behind.pid))


def test_a_process_whose_runner_lives_is_none_left_over(healthy: Workspace, left_behind) -> None:
    lock = runner_lock(healthy.settings.workspace, study_id(healthy))
    with lock:
        assert check_invariants(healthy) == []


def test_what_is_on_its_way_to_mlflow_is_a_violation_only_when_nothing_may_be(healthy: Workspace) -> None:
    rows(update(outbox).where(outbox.c.key.endswith("/3")).values(state="queued"))(healthy)

    assert check_invariants(healthy) == []
    assert [str(v) for v in check_invariants(healthy, settled=True)] == [
        "I4: study 'study', trial 3: MLflow has not got it yet"
    ]


def test_a_run_that_somebody_deleted_in_mlflow_is_no_violation(healthy: Workspace) -> None:
    sql("mlflow.db", "UPDATE runs SET lifecycle_stage = 'deleted'")(healthy)

    assert check_invariants(healthy, settled=True) == []


def test_a_study_that_was_deleted_is_not_missed(healthy: Workspace) -> None:
    healthy.studies.delete("study", Principal("ann", Role.ADMIN), confirm="study")
    assert check_invariants(healthy) == []

    forgotten = study_folder(healthy.settings.workspace, study_id_of_mark(healthy))
    assert forget(healthy.store, healthy.settings, forgotten.name)
    deliver(healthy)

    assert not forgotten.exists()
    assert check_invariants(healthy, settled=True) == []


def study_id_of_mark(workspace: Workspace) -> str:
    with workspace.store.read() as connection:
        (found,) = marked(connection)
    return found


def test_optuna_s_file_may_be_deleted(healthy: Workspace) -> None:
    for path in healthy.settings.workspace.glob("optuna.db*"):
        path.unlink()

    assert check_invariants(healthy) == []


def test_a_study_with_a_runner_may_be_marked_as_running(healthy: Workspace) -> None:
    rows(update(studies).values(state="running"))(healthy)
    with runner_lock(healthy.settings.workspace, study_id(healthy)):
        assert [v for v in check_invariants(healthy) if v.invariant == "I5"] == []


def test_lines_of_several_writers_are_each_counted_for_themselves(healthy: Workspace) -> None:
    with Workspace(healthy.settings) as another:
        for workspace in (healthy, another, healthy, another):
            call_a_tool(workspace)

    assert check_invariants(healthy) == []


def test_a_workspace_that_does_not_exist_is_not_made_by_looking(tmp_path: Path) -> None:
    from tests.health.conftest import open_workspace

    with open_workspace(tmp_path / "nothing") as workspace:
        assert check_invariants(workspace) == []
    assert not (tmp_path / "nothing").exists()


def test_runs_read_from_the_file_are_those_that_mlflow_s_client_shows(healthy: Workspace) -> None:
    client = open_client(tracking_target(healthy.settings))

    by_client = runs_of_client(client, study_id(healthy))

    assert len(by_client) == 7
    assert sorted(by_client, key=lambda run: run.uid) == sorted(stored(healthy), key=lambda run: run.uid)
