import random
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest
from sqlalchemy import insert, update

from mcp_server.processes import kill_tree
from mcp_server.settings import Settings
from mcp_server.store import Store, schema
from mcp_server.tracking.tracker import ensure_tracker, tracker_lock
from tests.tracking.records import END, STUDY, count, owe, tracking_status, trial

pytestmark = pytest.mark.process

N_TRIALS = 120
KILLS = 3
DEADLINE_S = 90.0


def eventually(condition):
    until = time.monotonic() + DEADLINE_S
    while not condition():
        assert time.monotonic() < until, "not within the deadline"
        time.sleep(0.01)


def start(settings: Settings, *more: str) -> subprocess.Popen[bytes]:
    log = settings.workspace / "tracker.log"
    with log.open("ab") as sink:
        return subprocess.Popen(
            [sys.executable, "-m", "mcp_server.tracking", "--workspace", str(settings.workspace), *more],
            stdin=subprocess.DEVNULL,
            stdout=sink,
            stderr=sink,
            start_new_session=True,
        )


def test_kill_9_at_any_moment_leaves_exactly_one_finished_run_per_record(store, settings):
    database = settings.workspace / "mlflow.db"
    owe(store, STUDY, *(trial(number, reports=[]) for number in range(N_TRIALS)), END)
    for moment in sorted(random.sample(range(2, N_TRIALS - 20), KILLS)):
        tracker = start(settings)
        eventually(lambda moment=moment: count(database, "select count(*) from runs") >= moment)
        tracker.kill()
        assert tracker.wait() == -9, "it ended before it could be killed"
    tracker = start(settings, "--idle-s", "0")
    assert tracker.wait(DEADLINE_S) == 0
    assert tracking_status(store).synced
    assert count(database, "select count(*) from runs") == N_TRIALS + 1
    assert count(database, "select count(distinct value) from tags where key = 'mcp.uid'") == N_TRIALS + 1
    assert count(database, "select count(*) from runs where status <> 'FINISHED'") == 0
    assert count(database, "select count(*) from params") == 2 * N_TRIALS + len(STUDY.params)
    assert count(database, "select count(*) from metrics where key = 'objective'") == N_TRIALS
    assert (settings.workspace / "tracker.log").read_text() == ""


def test_a_second_tracker_leaves_the_work_to_the_first(store, settings):
    owe(store, STUDY)
    with tracker_lock(settings):
        second = start(settings)
        assert second.wait(DEADLINE_S) == 0
    assert tracking_status(store).pending == 1


def set_study_state(store: Store, state: str) -> None:
    row = {
        "id": "s1",
        "name": "churn",
        "name_key": "churn",
        "owner": "me",
        "spec": {},
        "direction": "maximize",
        "metric": "accuracy",
        "n_trials": 3,
        "desired": "run",
        "state": state,
        "created_at": 0.0,
    }
    with store.write() as connection:
        if connection.execute(update(schema.studies).values(state=state)).rowcount == 0:
            connection.execute(insert(schema.studies).values(row))


def test_it_stays_while_a_study_runs_and_goes_when_the_study_has_ended(store, settings):
    set_study_state(store, "running")
    tracker = start(settings, "--idle-s", "0")
    owe(store, STUDY)
    eventually(lambda: tracking_status(store).synced)
    owe(store, trial(0), END)
    eventually(lambda: tracking_status(store).synced)
    assert tracker.poll() is None
    set_study_state(store, "finished")
    assert tracker.wait(DEADLINE_S) == 0


def detached_trackers(workspace: Path) -> list[psutil.Process]:
    wanted = {"mcp_server.tracking", str(workspace)}
    return [process for process in psutil.process_iter(["cmdline"]) if wanted <= set(process.info["cmdline"] or [])]


def test_ensure_tracker_starts_none_beside_one_that_runs(store, settings):
    owe(store, STUDY)
    with tracker_lock(settings):
        ensure_tracker(store, settings)
        assert detached_trackers(settings.workspace) == []


def test_ensure_tracker_makes_the_database_and_fills_it_without_being_waited_for(tmp_path):
    settings = Settings(workspace=tmp_path / "fresh")
    store = Store(settings.workspace)
    ensure_tracker(store, settings)
    assert tracker_lock(settings).is_free()
    owe(store, STUDY, trial(0), END)
    ensure_tracker(store, settings)
    try:
        eventually(lambda: tracking_status(store).synced)
        assert count(settings.workspace / "mlflow.db", "select count(*) from runs") == 2
    finally:
        for process in detached_trackers(settings.workspace):
            kill_tree(process.pid)
