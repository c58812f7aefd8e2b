import subprocess
import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st
from optuna import create_study
from optuna.samplers import RandomSampler

from mcp_server.errors import InvalidRequestError
from mcp_server.studies.space import SearchSpace
from mcp_server.training.estimators import (
    AUTO,
    auto_families,
    baseline_params,
    default_params,
    families,
    family,
    fixed_params,
    merged_params,
    model_class,
    parameter_names,
    resolve_estimator,
    search_space,
    split_params,
    training_params,
)

TASKS = ("classification", "regression")
SERVED = [(name, task) for task in TASKS for name in families(task)]
SIZE = (1_000, 10)

params = st.dictionaries(st.sampled_from("abcde"), st.integers())


@pytest.mark.parametrize(("name", "task"), SERVED)
def test_the_librarys_default_lies_in_the_default_space(name: str, task: str) -> None:
    real = model_class(name, task)().get_params()
    for parameter, entry in search_space(name, task, *SIZE).items():
        value = real[parameter]
        assert entry.contains(",".join(map(str, value)) if isinstance(value, tuple) else value), parameter


@pytest.mark.parametrize(("name", "task"), SERVED)
def test_the_listed_defaults_are_the_librarys(name: str, task: str) -> None:
    real = model_class(name, task)().get_params()
    listed = family(name).variants[task].library
    if name == "mlp":
        real["hidden_layer_sizes"] = ",".join(map(str, real["hidden_layer_sizes"]))
    assert {parameter: real[parameter] for parameter in listed} == listed
    assert set(family(name).variants[task].system) == {"random_state", "n_jobs"} & set(real) - (
        {"n_jobs"} if name == "logistic_regression" else set()  # deprecated there
    )


@pytest.mark.parametrize(("name", "task"), SERVED)
def test_the_baseline_is_a_point_of_the_space_with_library_values(name: str, task: str) -> None:
    space = search_space(name, task, *SIZE)
    baseline = baseline_params(name, task, space)
    assert set(baseline) == set(space)
    assert all(space[parameter].contains(value) for parameter, value in baseline.items())
    assert baseline == {parameter: family(name).variants[task].library[parameter] for parameter in space}


@pytest.mark.parametrize("task", TASKS)
@pytest.mark.parametrize("estimator", [AUTO, "random_forest"])
def test_a_thousand_draws_stay_inside_the_space(task: str, estimator: str) -> None:
    space = SearchSpace(search_space(estimator, task, *SIZE))
    study = create_study(sampler=RandomSampler(seed=0))
    for _ in range(1_000):
        drawn = space.suggest(study.ask())
        assert all(space.root[name].contains(value) for name, value in drawn.items())
        chosen, own = split_params(estimator, drawn)
        assert set(own) == set(search_space(chosen, task, *SIZE))


@pytest.mark.parametrize("task", TASKS)
def test_auto_chooses_a_family_and_searches_its_parameters_only_then(task: str) -> None:
    space = search_space(AUTO, task, *SIZE)
    chosen = space["estimator"].choices
    assert set(chosen) == set(auto_families(task, *SIZE))
    for name, entry in space.items():
        if name != "estimator":
            assert entry.when == {"estimator": [name.split(".")[0]]}
    assert set(space) <= parameter_names(AUTO, task)


@pytest.mark.parametrize(
    ("size", "left_out"),
    [
        ((1_000, 10), {"lasso"}),
        ((10_001, 10), {"svm", "gradient_boosting", "lasso"}),
        ((20_001, 10), {"svm", "gradient_boosting", "knn", "lasso"}),
        ((100_000, 10), {"svm", "gradient_boosting", "knn", "mlp", "lasso"}),
        ((1_000, 51), {"knn", "gradient_boosting", "lasso"}),
        ((100, 20), set()),
    ],
)
def test_auto_leaves_out_what_does_not_suit_the_size(size: tuple[int, int], left_out: set[str]) -> None:
    assert set(families("regression")) - set(auto_families("regression", *size)) == left_out


def test_neighbours_stay_fewer_than_the_rows_of_a_fold() -> None:
    assert search_space("knn", "regression", 60, 3)["n_neighbors"].high == 15
    assert search_space("knn", "regression", 10, 3)["n_neighbors"].high == 5
    assert search_space("knn", "regression", 10_000, 3)["n_neighbors"].high == 50


@pytest.mark.parametrize(
    ("typed", "task", "meant"),
    [
        ("rf", "classification", "random_forest"),
        ("RandomForest", "regression", "random_forest"),
        ("sklearn.ensemble.RandomForestClassifier", "classification", "random_forest"),
        ("Random Forest", "classification", "random_forest"),
        ("LogisticRegression", "classification", "logistic_regression"),
        ("hgb", "regression", "hist_gradient_boosting"),
        ("SVC", "classification", "svm"),
        ("svr", "regression", "svm"),
        ("k-nearest-neighbors", "regression", "knn"),
        ("neural network", "classification", "mlp"),
        ("AUTO", "classification", "auto"),
    ],
)
def test_usual_spellings_are_understood(typed: str, task: str, meant: str) -> None:
    assert resolve_estimator(typed, task) == meant


def test_no_spelling_means_two_families() -> None:
    spellings = [(alias, name) for name, _ in set(SERVED) for alias in family(name).aliases]
    assert all(family(alias).name == name for alias, name in spellings)


@pytest.mark.parametrize(
    ("typed", "task", "said"),
    [
        ("random_forrest", "classification", "Did you mean random_forest"),
        ("catboostx", "classification", "Did you mean hist_gradient_boosting"),
        ("quantum", "classification", "Known: logistic_regression, ridge"),
        ("xgboost", "classification", "Use hist_gradient_boosting"),
        ("xgboost.XGBClassifier", "classification", "Use hist_gradient_boosting"),
        ("LGBMClassifier", "classification", "tuning-mcp[boost]"),
        ("ridge", "classification", "ridge is for regression, and the task is classification"),
        ("logistic", "regression", "For regression use ridge, lasso"),
    ],
)
def test_an_estimator_that_is_not_there_names_what_is(typed: str, task: str, said: str) -> None:
    with pytest.raises(InvalidRequestError) as caught:
        resolve_estimator(typed, task)
    assert said in str(caught.value)


@pytest.mark.parametrize(
    ("name", "task", "fixed"),
    [
        ("random_forest", "classification", {"random_state": 3, "n_jobs": 2}),
        ("logistic_regression", "classification", {"random_state": 3}),
        ("ridge", "regression", {"random_state": 3}),
        ("knn", "regression", {"n_jobs": 2}),
        ("svm", "regression", {}),
        ("hist_gradient_boosting", "regression", {"random_state": 3}),
    ],
)
def test_the_study_fixes_seed_and_threads_where_there_are_any(name: str, task: str, fixed: dict[str, int]) -> None:
    assert fixed_params(name, task, seed=3, threads=2) == fixed


def test_the_fixed_parameters_of_an_unknown_estimator_are_refused() -> None:
    with pytest.raises(InvalidRequestError, match="no estimator 'mystery'"):
        fixed_params("mystery", "regression", seed=0, threads=1)


@given(defaults=params, best=params, fixed=params)
def test_fixed_beats_found_beats_default(defaults: dict, best: dict, fixed: dict) -> None:
    merged = merged_params(defaults, best, fixed)
    assert set(merged) == {*defaults, *best, *fixed}
    assert {name: merged[name] for name in fixed} == fixed
    assert all(merged[name] == best[name] for name in best if name not in fixed)
    assert all(merged[name] == defaults[name] for name in defaults if name not in {*best, *fixed})


def test_training_parameters_have_the_familys_own_names() -> None:
    assert training_params("svm", {"C": 2.0, "gamma": "auto"}, {"svm.C": 5.0, "knn.p": 1}) == {
        "C": 5.0,
        "gamma": "auto",
    }
    assert training_params("svm", {"gamma": "auto"}, {"C": 5.0}) == {"gamma": "auto", "C": 5.0}


def test_auto_parameters_without_an_estimator_are_refused() -> None:
    with pytest.raises(InvalidRequestError, match="choose no estimator"):
        split_params(AUTO, {"svm.C": 1.0})


def test_the_auto_baseline_is_a_random_forest_or_the_first_that_is_searched() -> None:
    space = search_space(AUTO, "classification", *SIZE)
    assert baseline_params(AUTO, "classification", space)["estimator"] == "random_forest"
    assert baseline_params(AUTO, "classification", ["estimator", "svm.C"]) == {"estimator": "svm", "svm.C": 1.0}


def test_departures_from_the_library_are_few_and_never_searched() -> None:
    departures = {
        (name, task): family(name).variants[task].ours for name, task in SERVED if family(name).variants[task].ours
    }
    assert departures == {
        ("logistic_regression", "classification"): {"max_iter": 1000},
        ("mlp", "classification"): {"max_iter": 100},
        ("mlp", "regression"): {"max_iter": 100},
    }
    for (name, task), ours in departures.items():
        assert not set(ours) & set(search_space(name, task, *SIZE))
        assert default_params(name, task).items() >= ours.items()


def test_names_spaces_and_metrics_need_no_numerical_library() -> None:
    code = (
        "import sys; import mcp_server.training.estimators, mcp_server.training.metrics, mcp_server.training.smoke; "
        "print([m for m in ('numpy', 'sklearn', 'scipy', 'pandas', 'optuna') if m in sys.modules])"
    )
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "[]\n"
