import json
import math
import socket
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import select, update

from mcp_server.errors import BackendUnavailableError
from mcp_server.settings import Settings
from mcp_server.store import schema
from mcp_server.tracking._base import Point, RunContent
from mcp_server.tracking.drain import MAX_FAILURES, Drain
from mcp_server.tracking.mlflow import MlflowTracker
from mcp_server.tracking.search import run_details
from mcp_server.tracking.target import tracking_target
from tests.tracking.records import END, START, STUDY, count, owe, tracking_status, trial


def drain_all(drain: Drain) -> None:
    while drain.run_batch():
        pass


def runs_where(client: Any, condition: str = "") -> list[Any]:
    ids = [experiment.experiment_id for experiment in client.search_experiments()]
    return list(client.search_runs(ids, condition))


def only(client: Any, condition: str) -> Any:
    (run,) = runs_where(client, condition)
    return run


def history(client: Any, run: Any, key: str) -> list[tuple[int, float]]:
    return sorted((point.step, point.value) for point in client.get_metric_history(run.info.run_id, key))


def test_a_study_becomes_a_parent_run_with_a_child_per_trial(store, drain, client):
    owe(store, STUDY, *(trial(number) for number in range(30)), END)
    drain_all(drain)
    parent = only(client, "tags.automl = 'true'")
    children = runs_where(client, f"tags.mlflow.parentRunId = '{parent.info.run_id}'")
    assert len(children) == 30
    assert {run.info.status for run in children} == {"FINISHED"}
    fifth = only(client, "tags.optuna_trial = '5'")
    assert fifth.info.run_name == "trial_5"
    expected = {"trial_number": "5", "optuna_study": "churn", "agent": "tuning", "mcp.state": "complete"}
    assert expected.items() <= fifth.data.tags.items()
    assert tracking_status(store).synced


def test_a_trial_run_has_its_params_metrics_folds_times_and_config(store, drain, client):
    owe(store, STUDY, trial(7))
    drain_all(drain)
    run = only(client, "tags.trial_number = '7'")
    assert run.data.params == {"c": "7.5", "kernel": "rbf"}
    expected = {"accuracy": 0.507, "final_metric": 0.507, "accuracy_std": 0.01, "log_loss": 0.3, "cost_usd": 0.002}
    assert expected.items() <= run.data.metrics.items()
    assert run.data.metrics["runtime_s"] == pytest.approx(0.75)
    folds = [(0, 0.5), (1, 0.51), (2, 0.52)]
    assert history(client, run, "val_metric") == folds
    assert history(client, run, "accuracy_fold") == folds
    assert (run.info.start_time, run.info.end_time) == (round((START + 7) * 1000), round((START + 7.75) * 1000))
    config = json.loads(Path(client.download_artifacts(run.info.run_id, "config.json")).read_text())
    assert config["config"] == {"estimator": "svc", "nested": {"a": [1, 2]}}


def test_the_parent_shows_objective_and_best_by_trial_and_ends_with_the_study(store, drain, client):
    owe(store, STUDY, *(trial(number) for number in range(4)))
    drain_all(drain)
    parent = only(client, "tags.mcp.kind = 'study'")
    assert parent.info.status == "RUNNING"
    owe(store, END)
    drain_all(drain)
    parent = client.get_run(parent.info.run_id)
    expected = [(number, 0.5 + number / 1000) for number in range(4)]
    assert history(client, parent, "objective") == expected
    assert history(client, parent, "best_so_far") == expected
    assert (parent.info.status, parent.info.end_time) == ("FINISHED", round(END.ended_at * 1000))
    assert parent.data.metrics["best_value"] == 0.9
    assert parent.data.tags["mcp.stop_reason"] == "n_trials"


def test_a_study_that_goes_on_after_its_end_runs_again_until_the_next_end(store, tracker, client, target):
    owe(store, STUDY, trial(0), END, trial(1))
    drain_all(Drain(store, tracker))
    parent = only(client, "tags.mcp.kind = 'study'")
    assert (parent.info.status, parent.data.tags["mcp.state"]) == ("RUNNING", "running")
    assert run_details(client, target, parent.info.run_id).ended_at is None

    again = END.model_copy(update={"sequence": 1, "ended_at": START + 200, "state": "stopped"})
    drain = Drain(store, tracker)  # another process
    owe(store, trial(2), again)
    drain_all(drain)
    parent = only(client, "tags.mcp.kind = 'study'")
    assert (parent.info.status, parent.info.end_time) == ("KILLED", round((START + 200) * 1000))
    assert parent.data.tags["mcp.state"] == "stopped"

    owe(store, trial(3))
    drain_all(drain)
    assert only(client, "tags.mcp.kind = 'study'").info.status == "RUNNING"


def test_a_trial_that_arrives_late_does_not_reopen_its_study(store, drain, client):
    owe(store, STUDY, trial(0), trial(1), END)
    drain_all(drain)
    with store.write() as connection:
        connection.execute(update(schema.outbox).where(schema.outbox.c.key == "s1/1").values(state="creating"))
    drain_all(drain)
    assert only(client, "tags.mcp.kind = 'study'").info.status == "FINISHED"


def test_the_parent_names_its_data_by_our_own_digest(store, drain, client):
    owe(store, STUDY)
    drain_all(drain)
    parent = only(client, "tags.mcp.kind = 'study'")
    (logged,) = parent.inputs.dataset_inputs
    assert (logged.dataset.name, logged.dataset.digest) == ("churn.csv", ("ab" * 32)[:36])


def test_a_pruned_trial_is_killed_and_its_history_ends_at_the_pruning_step(store, drain, client):
    reports = [(0, 0.4, START), (1, 0.3, START + 1)]
    owe(store, STUDY, trial(0, state="pruned", value=None, best_so_far=None, std=None, reports=reports))
    drain_all(drain)
    run = only(client, "tags.mcp.state = 'pruned'")
    assert run.info.status == "KILLED"
    assert history(client, run, "val_metric") == [(0, 0.4), (1, 0.3)]
    assert "final_metric" not in run.data.metrics


def test_a_failed_trial_is_failed_and_says_why(store, drain, client):
    owe(store, STUDY, trial(0, state="failed", value=None, error="ValueError: singular"))
    drain_all(drain)
    run = only(client, "tags.trial_number = '0'")
    assert run.info.status == "FAILED"
    assert run.data.tags["mcp.error"] == "ValueError: singular"


def test_what_is_not_finite_becomes_a_tag_and_no_metric(store, drain, client):
    owe(store, STUDY, trial(0, metrics={"log_loss": math.inf, "auc": math.nan}))
    drain_all(drain)
    run = only(client, "tags.trial_number = '0'")
    assert not {"log_loss", "auc"} & set(run.data.metrics)
    assert run.data.tags["mcp.nonfinite.log_loss"] == "inf"
    assert run.data.tags["mcp.nonfinite.auc"] == "nan"


def test_names_and_values_that_mlflow_would_refuse_or_cut_are_kept_in_full_elsewhere(store, drain, client):
    odd = {"layers[0]": 64, "../x": "a", "a🚀": 1, "": 0, "long": "x" * 7_000, "bad\ud800": "\ud800\0"}
    owe(store, STUDY, trial(0, params=odd, metrics={"f1@5": 0.5}))
    drain_all(drain)
    run = only(client, "tags.trial_number = '0'")
    assert len(run.data.params) == len(odd)
    renamed = {value: key.removeprefix("mcp.name.") for key, value in run.data.tags.items() if "mcp.name." in key}
    assert run.data.params[renamed["layers[0]"]] == "64"
    assert run.data.metrics[renamed["f1@5"]] == 0.5
    assert run.data.params["long"].endswith("(7,000 characters, see config.json)")
    config = json.loads(Path(client.download_artifacts(run.info.run_id, "config.json")).read_text())
    assert config["params"]["long"] == "x" * 7_000


def poison_payload(store: Any, key: str, payload: dict[str, object]) -> None:
    with store.write() as connection:
        connection.execute(update(schema.outbox).where(schema.outbox.c.key == key).values(payload=payload))


def row_of(store: Any, key: str) -> Any:
    with store.read() as connection:
        return connection.execute(select(schema.outbox).where(schema.outbox.c.key == key)).one()


def test_a_record_that_cannot_be_read_is_marked_and_blocks_nothing(store, drain, client):
    owe(store, STUDY, trial(0), trial(1), END)
    poison_payload(store, "s1/0", {"kind": "trial"})
    drain_all(drain)
    row = row_of(store, "s1/0")
    assert row.state == "refused"
    assert "cannot be read" in row.error
    assert len(runs_where(client, "tags.mcp.kind = 'trial'")) == 1
    assert (tracking_status(store).pending, tracking_status(store).synced) == (0, False)


def test_a_record_that_the_store_can_never_take_is_given_up_while_the_others_arrive(store, drain, client):
    owe(store, STUDY, trial(0, reports=[(2**63, 0.5, START)]), trial(1), END)
    for _ in range(MAX_FAILURES - 1):
        with pytest.raises(BackendUnavailableError):
            drain.run_batch()
    assert row_of(store, "s1/1").state == "done"
    drain_all(drain)
    assert row_of(store, "s1/0").state == "refused"
    assert row_of(store, "s1/0").error
    assert only(client, "tags.mcp.kind = 'study'").info.status == "FINISHED"


def test_trials_of_a_study_that_was_refused_stand_alone(store, drain, client):
    owe(store, STUDY, trial(0), END)
    poison_payload(store, "s1", {"kind": "study"})
    drain_all(drain)
    run = only(client, "")
    assert run.data.tags["trial_number"] == "0"
    assert "mlflow.parentRunId" not in run.data.tags


CALLS = 12  # of the store, for a study with three trials: see the test after the sweep


class Killed(BaseException):
    """Stands for the death of the process: nothing may catch it."""


class DyingTracker:
    """A real tracker that dies before or after its n-th call."""

    def __init__(self, tracker: MlflowTracker, fatal_call: int, *, after: bool) -> None:
        self._tracker = tracker
        self._left = fatal_call
        self._after = after
        self.calls = 0

    def create_run(self, content: RunContent) -> str:
        return self._called(lambda: self._tracker.create_run(content))

    def find_run(self, content: RunContent) -> str | None:
        return self._called(lambda: self._tracker.find_run(content))

    def write(self, run_id: str, content: RunContent) -> None:
        self._called(lambda: self._tracker.write(run_id, content))

    def add(self, run_id: str, points: list[Point], tags: dict[str, str]) -> None:
        self._called(lambda: self._tracker.add(run_id, points, tags))

    def end(self, run_id: str, status: Any, ended_ms: int) -> None:
        self._called(lambda: self._tracker.end(run_id, status, ended_ms))

    def reopen(self, run_id: str) -> None:
        self._called(lambda: self._tracker.reopen(run_id))

    def tidy(self) -> None:
        self._called(self._tracker.tidy)

    def check(self) -> None:
        self._tracker.check()

    def _called(self, call: Callable[[], Any]) -> Any:
        self.calls += 1
        if self.calls == self._left and not self._after:
            raise Killed
        result = call()
        if self.calls == self._left:
            raise Killed
        return result


def assert_exact(store, client, n_trials):
    assert tracking_status(store).synced
    runs = runs_where(client)
    assert sorted(run.data.tags["mcp.uid"] for run in runs) == sorted(["s1", *(f"s1/{n}" for n in range(n_trials))])
    assert {run.info.status for run in runs} == {"FINISHED"}
    parent = only(client, "tags.mcp.kind = 'study'")
    assert [step for step, _ in history(client, parent, "objective")] == list(range(n_trials))
    for run in runs_where(client, "tags.mcp.kind = 'trial'"):
        assert len(history(client, run, "val_metric")) == 3
        assert len(history(client, run, "accuracy")) == 1
        assert run.data.tags["mlflow.parentRunId"] == parent.info.run_id


@pytest.mark.parametrize("after", [False, True], ids=["before", "after"])
@pytest.mark.parametrize("fatal_call", range(1, CALLS + 1))
def test_dying_at_any_call_leaves_one_run_per_record_after_a_restart(store, tracker, client, fatal_call, after):
    owe(store, STUDY, trial(0), trial(1), trial(2), END)
    dying = DyingTracker(tracker, fatal_call, after=after)
    with pytest.raises(Killed):
        drain_all(Drain(store, dying, batch=4))
    drain_all(Drain(store, tracker, batch=4))
    assert_exact(store, client, 3)


def test_the_sweep_above_reaches_every_call(store, tracker, client):
    owe(store, STUDY, trial(0), trial(1), trial(2), END)
    counting = DyingTracker(tracker, 0, after=False)
    drain_all(Drain(store, counting, batch=4))
    assert counting.calls == CALLS
    assert_exact(store, client, 3)


def test_everything_projected_again_changes_nothing(store, tracker, client):
    owe(store, STUDY, trial(0), trial(1), END)
    drain_all(Drain(store, tracker))
    with store.write() as connection:
        connection.execute(update(schema.outbox).values(state="creating", run_id=None))
    drain_all(Drain(store, tracker))
    assert_exact(store, client, 2)


def test_a_study_run_is_made_again_when_the_mlflow_database_was_deleted(store, drain, client, settings, migrated):
    owe(store, STUDY, trial(0))
    drain_all(drain)
    other = settings.workspace / "second.db"
    other.write_bytes(migrated.read_bytes())
    elsewhere = settings.model_copy(update={"tracking_uri": f"sqlite:///{other}"})
    owe(store, trial(1), END)
    drain_all(Drain(store, MlflowTracker(tracking_target(elsewhere))))
    assert tracking_status(store).synced
    assert count(other, "select count(*) from runs where status = 'FINISHED'") == 2


def test_an_experiment_that_was_deleted_is_restored(store, tracker, client):
    owe(store, STUDY)
    drain_all(Drain(store, tracker))
    client.delete_experiment(client.get_experiment_by_name("churn").experiment_id)
    owe(store, trial(0), END)
    drain_all(Drain(store, MlflowTracker(tracker._target)))
    assert client.get_experiment_by_name("churn").lifecycle_stage == "active"
    assert len(runs_where(client, "tags.mcp.kind = 'trial'")) == 1


def test_records_wait_while_the_server_is_down_and_say_why_without_credentials(store, settings, drain, monkeypatch):
    monkeypatch.setenv("MLFLOW_TRACKING_USERNAME", "bob")
    monkeypatch.setenv("MLFLOW_TRACKING_PASSWORD", "hunter2")
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        down = settings.model_copy(update={"tracking_uri": f"http://127.0.0.1:{closed.getsockname()[1]}"})
        owe(store, STUDY, trial(0), END)
        with pytest.raises(BackendUnavailableError, match="does not answer: ConnectionError"):
            Drain(store, MlflowTracker(tracking_target(down))).run_batch()
    waiting = tracking_status(store)
    assert waiting.pending == 3
    assert waiting.last_error is not None
    assert "hunter2" not in waiting.last_error
    drain_all(drain)
    assert tracking_status(store).synced


def test_texts_that_mlflow_would_cut_say_where_the_whole_is(store, drain, client):
    owe(store, STUDY, trial(0, state="failed", value=None, error="E" * 9_000, params={"prompt": "p" * 9_000}))
    drain_all(drain)
    run = only(client, "tags.trial_number = '0'")
    texts = {run.data.tags["mcp.error"]: 8_000, run.data.params["prompt"]: 6_000}
    for text, limit in texts.items():
        assert len(text) == limit
        assert text.endswith("... (9,000 characters, see config.json)")
    config = json.loads(Path(client.download_artifacts(run.info.run_id, "config.json")).read_text())
    assert (len(config["error"]), len(config["params"]["prompt"])) == (9_000, 9_000)


@pytest.mark.parametrize(("state", "status"), [("finished", "FINISHED"), ("stopped", "KILLED"), ("failed", "FAILED")])
def test_the_run_of_a_study_ends_as_the_study_did(store, drain, client, state, status):
    owe(store, STUDY, END.model_copy(update={"state": state}))
    drain_all(drain)
    parent = only(client, "tags.mcp.kind = 'study'")
    assert (parent.info.status, parent.data.tags["mcp.state"]) == (status, state)


def test_nothing_is_given_up_while_the_whole_store_is_down(store):
    with socket.socket() as nobody:
        nobody.bind(("127.0.0.1", 0))  # and does not listen
        settings = Settings(workspace=store.folder, tracking_uri=f"http://127.0.0.1:{nobody.getsockname()[1]}")
        drain = Drain(store, MlflowTracker(tracking_target(settings)))
        owe(store, STUDY, trial(0))
        for _ in range(MAX_FAILURES + 1):
            with pytest.raises(BackendUnavailableError):
                drain.run_batch()
    assert tracking_status(store).pending == 2
