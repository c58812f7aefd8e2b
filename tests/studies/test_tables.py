"""Studies of a table: folds, baseline, sealed rows. The table is read by the real companion process."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from sqlalchemy import select

from mcp_server.errors import ConflictError, InvalidRequestError, StudyExistsError
from mcp_server.settings import Settings
from mcp_server.store.schema import studies
from mcp_server.studies.definition import define
from mcp_server.studies.ledger import Ledger
from mcp_server.studies.samplers import TPE
from mcp_server.studies.spec import PlanSpec, StudyDefinition, StudySpec
from mcp_server.workspace import Workspace
from tests.studies.running import run_inline


@pytest.fixture(scope="module")
def tables(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Workspace]:
    folder = tmp_path_factory.mktemp("tables")
    settings = Settings(workspace=folder / "workspace", data_roots=(folder,), parallel=2)
    with Workspace(settings, launch=lambda *_: None) as workspace:
        yield workspace


def spec(name: str, **changed: object) -> StudySpec:
    fields = {
        "study_name": name,
        "data": "sklearn:breast_cancer",
        "target": "target",
        "estimator": "logistic_regression",
        "n_trials": 4,
        "pruner": "none",
    }
    return StudySpec.model_validate({**fields, **changed})


def run(tables: Workspace, name: str, **changed: object) -> None:
    tables.studies.start(spec(name, **changed), "tester")
    run_inline(tables, name)


def sealed_folder(tables: Workspace, name: str) -> Path:
    with tables.store.read() as connection:
        dataset = connection.scalars(select(studies.c.dataset).where(studies.c.name == name)).one()
    return Path(dataset["folder"]) / "sealed"


def test_trial_zero_is_the_baseline_with_the_defaults(tables: Workspace) -> None:
    run(tables, "baseline")

    first, *others = tables.studies.read.trials("baseline")
    assert (first.source, first.params["C"], first.params["class_weight"]) == ("baseline", 1.0, None)
    assert {trial.source for trial in others} == {"sampler"}


def test_without_a_baseline_the_sampler_chooses_trial_zero(tables: Workspace) -> None:
    run(tables, "no baseline", baseline=False, n_trials=1)

    assert tables.studies.read.trials("no baseline")[0].source == "sampler"


@pytest.mark.parametrize("sampler", ["tpe", "random", "grid"])
def test_every_sampler_reports_mean_spread_and_folds(tables: Workspace, sampler: str) -> None:
    name = f"folds {sampler}"
    run(tables, name, sampler=sampler, cv_folds=3, search_space={"C": [0.01, 1.0, 10.0]}, n_trials=3)

    trials = tables.studies.read.trials(name)
    assert len(trials) == 3
    for trial in trials:
        assert trial.folds is not None
        assert len(trial.folds) == 3
        assert trial.value == pytest.approx(np.mean(trial.folds), abs=1e-12)
        assert trial.std == pytest.approx(np.std(trial.folds, ddof=1), abs=1e-12)


def test_equal_parameters_score_equally_in_every_trial_because_folds_are_fixed(tables: Workspace) -> None:
    run(tables, "fixed folds", baseline=False, search_space={"C": [1.0]}, n_trials=3)

    assert len({tuple(trial.folds or []) for trial in tables.studies.read.trials("fixed folds")}) == 1


def test_poisoned_sealed_rows_change_nothing_about_the_search(tables: Workspace) -> None:
    run(tables, "clean", seed=3)
    tables.studies.start(spec("poisoned", seed=3, study_name="poisoned"), "tester")
    folder = sealed_folder(tables, "poisoned")
    kept = {file: file.read_bytes() for file in folder.iterdir()}
    try:
        features = np.load(folder / "X.npy")
        np.save(folder / "X.npy", np.full_like(features, np.nan))
        run_inline(tables, "poisoned")
    finally:
        for file, content in kept.items():
            file.write_bytes(content)

    rows = [[(t.params, t.folds) for t in tables.studies.read.trials(name)] for name in ("clean", "poisoned")]
    assert rows[0] == rows[1]


def test_the_final_test_reads_the_sealed_rows_and_counts_each_read(tables: Workspace) -> None:
    run(tables, "tested")
    assert tables.studies.read.status("tested").final_test is None

    for reads in (1, 2):
        tables.studies.control("tested", "final_test", "tester")
        run_inline(tables, "tested")
        found = tables.studies.read.status("tested").final_test
        assert found is not None
        assert found.reads == reads
        assert found.low is not None and found.high is not None and found.value is not None
        assert found.low <= found.value <= found.high
        assert found.trial == tables.studies.read.best("tested").trial
    assert len(tables.studies.read.trials("tested")) == 4, "a final test is no trial"


def test_a_final_test_before_the_end_is_refused(tables: Workspace) -> None:
    tables.studies.start(spec("early"), "tester")

    with pytest.raises(ConflictError, match="its winner is not known yet"):
        tables.studies.control("early", "final_test", "tester")


def test_a_final_test_without_sealed_rows_is_refused(tables: Workspace) -> None:
    run(tables, "unsealed", test_size=0, n_trials=1)

    with pytest.raises(InvalidRequestError, match="no sealed test rows"):
        tables.studies.control("unsealed", "final_test", "tester")


def test_fixed_parameters_hold_in_every_trial_and_leave_the_space(tables: Workspace) -> None:
    run(tables, "fixed", fixed={"class_weight": "balanced"})

    assert all("class_weight" not in trial.params for trial in tables.studies.read.trials("fixed"))
    training = tables.studies.read.best("fixed").training
    assert training["params"]["class_weight"] == "balanced"  # type: ignore[call-overload, index]


def test_fixing_the_estimator_of_auto_is_answered_with_how_to_say_it(tables: Workspace) -> None:
    with pytest.raises(InvalidRequestError, match='Pass estimator="knn"'):
        tables.studies.start(spec("fixed family", estimator="auto", fixed={"estimator": "knn"}), "tester")


def test_a_study_over_families_starts_with_a_default_random_forest(tables: Workspace) -> None:
    run(tables, "families", estimator="auto", n_trials=2, search_space={"estimator": ["random_forest", "knn"]})

    first, second = tables.studies.read.trials("families")
    assert first.params["estimator"] == "random_forest"
    assert first.params["random_forest.n_estimators"] == 100
    assert second.params["estimator"] in {"random_forest", "knn"}
    assert {name.split(".")[0] for name in second.params if "." in name} == {second.params["estimator"]}


def test_best_trials_of_several_families_stand_side_by_side_without_a_column_for_each_of_their_parameters(
    tables: Workspace,
) -> None:
    families = ["random_forest", "knn"]
    run(tables, "mixed", estimator="auto", n_trials=6, sampler="random", search_space={"estimator": families})

    table = tables.studies.read.compare("mixed", 6).trials
    assert table.columns[3:] == ["source", "estimator", "own_params"]
    assert {row[4] for row in table.rows} == set(families)
    trials = {trial.number: trial for trial in tables.studies.read.trials("mixed")}
    for row in table.rows:
        own = {name.partition(".")[2] for name in trials[row[0]].params if "." in name}  # type: ignore[index]
        assert {part.partition("=")[0] for part in str(row[-1]).split(", ")} == own


def test_a_separate_validation_table_is_the_only_one_that_scores(tables: Workspace) -> None:
    folder = tables.settings.data_roots[0]
    rng = np.random.default_rng(0)
    for name, flip in (("train.csv", False), ("valid.csv", True)):
        x = rng.normal(size=120)
        y = (x > 0) ^ flip  # the validation table says the opposite, so only it can give a score near 0
        lines = [f"{a},{rng.normal()},{'yes' if b else 'no'}" for a, b in zip(x, y, strict=True)]
        (folder / name).write_text("\n".join(["x,z,y", *lines]), encoding="utf-8")

    run(tables, "validated", data="train.csv", validation_data="valid.csv", target="y", metric="accuracy", n_trials=2)

    trials = tables.studies.read.trials("validated")
    assert all(len(trial.folds or []) == 1 for trial in trials)
    assert all((trial.value or 0) < 0.2 for trial in trials)


def test_a_resume_is_refused_when_the_file_has_changed(tables: Workspace) -> None:
    folder = tables.settings.data_roots[0]
    rows = [f"{i % 7},{(i * 3) % 5},{'a' if i % 7 > 3 else 'b'}" for i in range(60)]
    (folder / "moving.csv").write_text("\n".join(["p,q,y", *rows]), encoding="utf-8")
    run(tables, "moving", data="moving.csv", target="y", n_trials=1)
    (folder / "moving.csv").write_text("\n".join(["p,q,y", *rows, "1,1,b"]), encoding="utf-8")

    with pytest.raises(StudyExistsError, match="the file has changed since the study began"):
        tables.studies.start(spec("moving", data="moving.csv", target="y", n_trials=5), "tester")


def test_a_budget_without_a_price_says_that_it_limits_nothing(tables: Workspace) -> None:
    status = tables.studies.start(spec("free", cost_budget_usd=1.0), "tester")

    assert status.warnings is not None
    assert any("cost_budget_usd limits nothing" in warning for warning in status.warnings)


def test_a_name_and_a_larger_total_are_enough_to_resume(tables: Workspace) -> None:
    run(tables, "short", n_trials=2)
    tables.studies.start(StudySpec(study_name="short", n_trials=3), "tester")
    run_inline(tables, "short")

    assert tables.studies.read.status("short").n_complete == 3


def test_a_plan_says_what_would_happen_and_starts_nothing(tables: Workspace) -> None:
    before = tables.studies.read.page().total
    plan = tables.studies.plan(PlanSpec(data="sklearn:wine", target="target", estimator="knn", n_trials=6), "tester")

    assert tables.studies.read.page().total == before
    assert (plan.task, plan.metric, plan.n_trials, plan.parallel) == ("classification", "accuracy", 6, 2)
    assert plan.n_sealed == 36
    assert plan.parameters is not None
    assert [row[0] for row in plan.parameters.rows] == ["n_neighbors", "weights", "p"]
    assert plan.estimated_s[0] <= plan.estimated_s[1] <= plan.estimated_s[2]


def test_a_plan_starts_under_a_name_and_what_is_said_then_goes_first(tables: Workspace) -> None:
    plan = tables.studies.plan(PlanSpec(data="sklearn:wine", target="target", estimator="knn", n_trials=6), "tester")

    status = tables.studies.start(StudySpec(study_name="planned", n_trials=3), "tester", plan_id=plan.plan_id)

    config = tables.studies.read.status("planned", full=True).config
    assert status.n_trials == 3
    assert config is not None
    assert (config["estimator"], config["data"]) == ("knn", "sklearn:wine")


def test_the_full_status_shows_every_setting_of_the_study(tables: Workspace) -> None:
    tables.studies.start(spec("settings", seed=11, trial_timeout_s=30.0), "tester")

    config = tables.studies.read.status("settings", full=True).config
    assert config is not None
    assert (config["seed"], config["trial_timeout_s"], config["cv_folds"]) == (11, 30.0, 5)
    assert tables.studies.read.status("settings").config is None


def defined(tables: Workspace, **changed: object) -> StudyDefinition:
    data = tables.studies._prepared(spec("defined"))
    return define(spec("defined", estimator="auto", **changed), data)


def test_one_family_may_be_chosen_in_the_space_over_families(tables: Workspace) -> None:
    only = defined(tables, search_space={"estimator": "knn"})

    assert {name.split(".")[0] for name in only.space.root} == {"estimator", "knn"}
    assert only.baseline is not None
    assert only.baseline["estimator"] == "knn"


@pytest.mark.parametrize(
    ("asked", "reason"),
    [
        ({"estimator": ["knn", "nonsense"]}, "nonsense"),
        ({"estimator": ["knn"], "svm.C": [1.0, 2.0]}, r"svm\.C depends on estimator = svm, which estimator never is"),
        ({"estimator": {"low": 1, "high": 3}}, "estimator is no number"),
    ],
)
def test_a_space_over_families_that_cannot_be_searched_is_refused(
    tables: Workspace, asked: dict[str, object], reason: str
) -> None:
    with pytest.raises(InvalidRequestError, match=reason):
        defined(tables, search_space=asked)


def test_fixing_what_others_depend_on_is_refused_in_a_sentence(tables: Workspace) -> None:
    dependent = {"p": [1, 2], "n_neighbors": {"low": 1, "high": 9, "when": {"p": [1]}}}
    with pytest.raises(InvalidRequestError, match="n_neighbors depends on 'p', which is not in the space"):
        tables.studies.start(spec("depends", estimator="knn", search_space=dependent, fixed={"p": 1}), "tester")


def test_the_same_narrowed_request_with_a_larger_total_resumes(tables: Workspace) -> None:
    narrowed = {"estimator": "auto", "search_space": {"estimator": ["random_forest", "knn"]}}
    tables.studies.start(spec("narrowed", n_trials=1, **narrowed), "tester")

    assert tables.studies.start(spec("narrowed", n_trials=2, **narrowed), "tester").n_trials == 2


def test_another_option_of_the_sampler_is_named_in_the_differences(tables: Workspace) -> None:
    tables.studies.start(spec("options"), "tester")

    with pytest.raises(StudyExistsError, match=r"n_startup_trials': 10.*n_startup_trials': 3"):
        tables.studies.start(spec("options", n_trials=9, sampler={"type": "tpe", "n_startup_trials": 3}), "tester")


def test_a_plan_made_in_python_keeps_the_options_of_its_sampler(tables: Workspace) -> None:
    asked = PlanSpec(data="sklearn:wine", target="target", estimator="knn", sampler=TPE(n_startup_trials=3))
    plan = tables.studies.plan(asked, "tester")

    status = tables.studies.start(StudySpec(study_name="from python"), "tester", plan_id=plan.plan_id)

    assert status.sampler["n_startup_trials"] == 3


def test_a_new_runner_gives_the_pruner_the_means_of_folds_that_it_compared_before(tables: Workspace) -> None:
    run(tables, "means", n_trials=1, pruner="median")
    with tables.store.read() as connection:
        study_id = connection.scalars(select(studies.c.id).where(studies.c.name == "means")).one()

    known = Ledger(tables.store, tables.settings, study_id).trials.known()[0]

    folds = tables.studies.read.trials("means")[0].folds or []
    assert len(folds) == 5
    assert list(known.reports.values()) == pytest.approx([np.mean(folds[: i + 1]) for i in range(5)])
