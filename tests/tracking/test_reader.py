import shutil
import time

import pytest

from mcp_server.errors import BackendUnavailableError, InvalidRequestError, NotFoundError, RunNotFoundError
from mcp_server.settings import Settings
from mcp_server.store import Store
from mcp_server.tracking.drain import Drain
from mcp_server.tracking.mlflow import MlflowTracker
from mcp_server.tracking.queries import PAGE_LIMIT, RunQuery
from mcp_server.tracking.runs import Runs
from mcp_server.tracking.target import tracking_target
from tests.tracking.records import END, START, STUDY, owe, trial

pytestmark = [pytest.mark.process, pytest.mark.xdist_group("reader")]

N_TRIALS = 60


@pytest.fixture(scope="module")
def tracked(tmp_path_factory, migrated):
    """A workspace with one study of 60 trials in MLflow."""
    settings = Settings(workspace=tmp_path_factory.mktemp("tracked"))
    shutil.copyfile(migrated, settings.workspace / "mlflow.db")
    store = Store(settings.workspace)
    long = trial(1, reports=[(step, step / 100, START + step) for step in range(100)], step_unit="epoch")
    owe(store, STUDY, trial(0), long, *(trial(number) for number in range(2, N_TRIALS)), END)
    drain = Drain(store, MlflowTracker(tracking_target(settings)))
    while drain.run_batch():
        pass
    return settings


@pytest.fixture(scope="module")
def runs(tracked):
    opened = Runs(tracked)
    yield opened
    opened.close()


def eventually(condition):
    until = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < until, "not within the deadline"
        time.sleep(0.01)


def column(table, name):
    return [row[table.columns.index(name)] for row in table.rows]


def test_a_search_answers_only_the_columns_asked_for_in_the_order_asked_for(runs):
    table = runs.search(
        RunQuery(study_name="churn", columns=["run_name", "accuracy"], order_by=["accuracy DESC"], limit=2)
    )
    assert table.columns == ["run_name", "metrics.accuracy"]
    assert table.rows == [["trial_59", 0.5 + 59 / 1_000], ["trial_58", 0.5 + 58 / 1_000]]
    assert table.backend == "sqlite"


def test_a_search_by_filter_finds_the_one_trial(runs):
    table = runs.search(RunQuery(filter="tags.optuna_trial = '5'", columns=["run_name", "status"]))
    assert table.rows == [["trial_5", "FINISHED"]]


def test_without_columns_a_table_shows_identity_the_objective_and_the_params(runs):
    table = runs.search(RunQuery(study_name="churn", limit=1))
    assert table.columns[:5] == ["run_id", "run_name", "status", "start_time", "metrics.accuracy"]
    assert table.columns[-2:] == ["params.c", "params.kernel"]


def test_pages_follow_each_other_by_cursor_without_a_gap(runs):
    query = RunQuery(study_name="churn", columns=["tags.trial_number"], limit=25)
    seen, cursor, pages = [], None, 0
    while pages == 0 or cursor:
        page = runs.search(query.model_copy(update={"cursor": cursor}))
        seen += [int(value) for value in column(page, "tags.trial_number")]
        cursor, pages = page.next_cursor, pages + 1
    assert sorted(seen) == list(range(N_TRIALS))
    assert pages == 3


def test_a_page_is_capped_and_says_so(runs):
    table = runs.search(RunQuery(columns=["run_id"], limit=1_000_000))
    assert len(table.rows) == PAGE_LIMIT
    assert table.note is not None
    assert str(PAGE_LIMIT) in table.note


@pytest.mark.parametrize(
    "query",
    [RunQuery(columns=["metrics.acuracy"]), RunQuery(columns=["acuracy"]), RunQuery(order_by=["params.acuracy DESC"])],
    ids=["column", "bare column", "order"],
)
def test_an_unknown_name_is_answered_with_the_known_ones(runs, query):
    with pytest.raises(InvalidRequestError, match=r"acuracy.*Known metrics: .*accuracy.*Known params: c, kernel"):
        runs.search(query)


def test_a_metric_that_only_an_old_run_has_is_known(runs):
    table = runs.search(RunQuery(columns=["metrics.accuracy_epoch"], filter="tags.trial_number = '1'"))
    assert table.rows == [[0.99]]


@pytest.mark.parametrize(
    "condition",
    ["metrics.accuracy >> 1", "metrics.accuracy > 0.5 OR 1=1", "params.kernel = 'rbf", "nonsense", "foo.a = 1"],
)
def test_a_filter_that_mlflow_cannot_read_is_refused_with_an_example(runs, condition):
    with pytest.raises(InvalidRequestError, match="cannot be run") as caught:
        runs.search(RunQuery(filter=condition))
    assert "AND" in caught.value.hint
    assert len(caught.value.message) < 400


def test_a_cursor_that_nobody_gave_out_is_refused(runs):
    with pytest.raises(InvalidRequestError):
        runs.search(RunQuery(cursor="abc"))


def test_an_unknown_experiment_is_answered_with_the_known_ones(runs):
    with pytest.raises(NotFoundError, match=r"no experiment 'nope'.*churn"):
        runs.search(RunQuery(experiments=["nope"]))


def test_a_run_is_shown_with_its_history_config_and_lineage(runs):
    (row,) = runs.search(RunQuery(filter="tags.trial_number = '1'", columns=["run_id"])).rows
    details = runs.get(str(row[0]))
    assert (details.study_name, details.study_id, details.trial, details.experiment) == ("churn", "s1", 1, "churn")
    assert details.params == {"c": "1.5", "kernel": "rbf"}
    assert details.metrics["accuracy"] == 0.501
    (history,) = [history for history in details.histories if history.metric == "val_metric"]
    assert (history.n_points, len(history.steps)) == (100, 20)
    assert (history.steps[0], history.steps[-1], history.values[-1]) == (0, 99, 0.99)
    assert [artifact.path for artifact in details.artifacts] == ["config.json"]
    parent = runs.get(str(details.parent_run_id))
    assert (parent.n_children, parent.run_name, parent.trial) == (N_TRIALS, "churn", None)


def test_artifacts_outside_the_workspace_are_not_listed(runs, tracked, tmp_path):
    from mlflow import MlflowClient

    (tmp_path / "secret.txt").write_text("s")
    client = MlflowClient(tracking_uri=tracking_target(tracked).uri)
    experiment = client.create_experiment("foreign", artifact_location=tmp_path.as_uri())
    run = client.create_run(experiment, tags={"mlflow.runName": "foreign"})
    (tmp_path / run.info.run_id / "artifacts").mkdir(parents=True)
    (tmp_path / run.info.run_id / "artifacts" / "secret.txt").write_text("s")
    details = runs.get(run.info.run_id)
    assert details.artifacts == []
    assert "outside" in (details.note or "")


@pytest.mark.parametrize("run_id", ["../..", "a" * 10_000, "x' OR '1'='1", "", "A" * 32])
def test_what_is_no_run_id_is_refused(runs, run_id):
    with pytest.raises(InvalidRequestError, match="not a run id"):
        runs.get(run_id)


def test_an_unknown_run_is_not_found(runs):
    with pytest.raises(RunNotFoundError):
        runs.get("0" * 32)


def test_a_workspace_without_runs_answers_empty_and_nothing_is_made(tmp_path):
    settings = Settings(workspace=tmp_path / "fresh")
    empty = Runs(settings)
    try:
        table = empty.search(RunQuery(columns=["anything"]))
        with pytest.raises(RunNotFoundError):
            empty.get("0" * 32)
    finally:
        empty.close()
    assert (table.rows, table.backend, table.note) == ([], "sqlite", "Nothing has been tracked yet.")
    assert [path.name for path in settings.workspace.iterdir()] == ["logs"]


def test_the_companion_ends_when_it_is_not_used_and_comes_back_for_the_next_question(tmp_path):
    runs = Runs(Settings(workspace=tmp_path), idle_s=0.05)
    try:
        for _ in range(2):
            assert runs.search(RunQuery()).rows == []
            eventually(lambda: runs._companion._process is None)
    finally:
        runs.close()


def test_a_server_that_is_down_is_said_to_be_down(tmp_path):
    unreachable = Runs(Settings(workspace=tmp_path, tracking_uri="http://127.0.0.1:1"))
    try:
        with pytest.raises(BackendUnavailableError, match=r"127\.0\.0\.1:1 does not answer"):
            unreachable.search(RunQuery())
    finally:
        unreachable.close()
