import warnings
from pathlib import Path
from statistics import fmean, stdev

import numpy as np
import pytest
from sklearn.metrics import get_scorer
from sklearn.model_selection import cross_validate as sklearn_cross_validate
from threadpoolctl import threadpool_info

from mcp_server.data.arrays import load_development
from mcp_server.data.spec import Column
from mcp_server.errors import DataError, InvalidRequestError
from mcp_server.execution import TrialTask
from mcp_server.execution.trial import TrialPruned
from mcp_server.execution.worker import run_objective
from mcp_server.training.estimators import build, families
from mcp_server.training.fitting import limited
from mcp_server.training.objective import cross_validate

TASKS = {"classification": ("wine", "accuracy"), "regression": ("diabetes", "rmse")}
SERVED = [(name, task) for task in TASKS for name in families(task)]
QUICK = {"n_estimators": 20}


@pytest.mark.parametrize(("name", "task"), SERVED)
def test_every_family_is_cross_validated_and_beats_a_constant(table, trial, name, task) -> None:
    data, metric = TASKS[task]
    result = cross_validate(trial(table(data, cv_folds=3), name, metric))
    assert len(result.folds) == 3
    assert result.value == pytest.approx(fmean(result.folds))
    assert result.std == pytest.approx(stdev(result.folds))
    assert result.value > 0.9 if task == "classification" else result.value < 65
    assert result.metrics["fit_seconds"] > 0 < result.metrics["predict_seconds"]


def test_the_folds_are_scored_as_scikit_learn_scores_them(table, trial) -> None:
    data = table("breast_cancer")
    arrays = load_development(Path(data.folder))
    pipeline = build("logistic_regression", data.task, {"C": 0.5}, columns=data.columns)
    theirs = sklearn_cross_validate(
        pipeline, arrays.X, arrays.y, cv=arrays.splits(), scoring={name: get_scorer(name) for name in ("roc_auc", "f1")}
    )
    ours = cross_validate(trial(data, "logistic_regression", "roc_auc", {"C": 0.5}))
    assert ours.folds == pytest.approx(list(theirs["test_roc_auc"]), abs=1e-12)
    assert ours.metrics["f1"] == pytest.approx(theirs["test_f1"].mean(), abs=1e-12)


def test_after_each_fold_its_score_and_the_mean_so_far_are_reported(table, recorder) -> None:
    result = cross_validate(recorder.trial(table("wine"), "logistic_regression", "accuracy"))
    assert [step for step, *_ in recorder.reports] == [0, 1, 2, 3, 4]
    assert [value for _, value, _ in recorder.reports] == result.folds
    assert [running for *_, running in recorder.reports] == [fmean(result.folds[: i + 1]) for i in range(5)]


def test_a_trial_that_should_stop_fits_no_further_fold(table, recorder) -> None:
    recorder.prune_after = 2
    with pytest.raises(TrialPruned):
        cross_validate(recorder.trial(table("wine"), "logistic_regression", "accuracy"))
    assert len(recorder.reports) == 2


def test_a_trial_that_has_its_last_fold_is_complete(table, recorder) -> None:
    recorder.prune_after = 5
    assert len(cross_validate(recorder.trial(table("wine"), "logistic_regression", "accuracy")).folds) == 5


def test_folds_are_the_same_in_every_trial_and_for_every_seed(table, trial) -> None:
    data = table("diabetes")
    first, second = (cross_validate(trial(data, "ridge", "rmse", seed=seed)).folds for seed in (0, 1))
    assert first == second
    once, again, other = (
        cross_validate(trial(data, "random_forest", "rmse", QUICK, seed=seed)).folds for seed in (1, 1, 2)
    )
    assert once == again != other


@pytest.mark.parametrize("name", ["ridge", "knn", "svm", "mlp", "gradient_boosting"])
def test_what_only_a_validation_row_holds_changes_no_fit(written, trial, name) -> None:
    """The row's own error is the largest either way, so the median error of its fold tells of the other rows only."""
    random = np.random.default_rng(0)
    features = np.column_stack([random.normal(size=90), np.full(90, np.nan), random.integers(0, 2, 90)])
    target = features[:, 0] + random.normal(size=90)
    target[0] = 1e6
    columns = [
        Column(name="x", kind="numeric"),
        Column(name="empty", kind="numeric"),
        Column(name="c", kind="categorical", categories=["a", "b", "only here"]),
    ]
    planted = features.copy()
    planted[0] = (1e9, 5.0, 2.0)
    clean, dirty = (
        cross_validate(trial(written(rows, target, task="regression", columns=columns), name, "median_ae"))
        for rows in (features, planted)
    )
    assert clean.folds[0] == dirty.folds[0]  # row 0 is validated here
    assert clean.folds[1:] != dirty.folds[1:]  # and trained on there


@pytest.mark.parametrize(("name", "task"), SERVED)
def test_a_column_may_have_no_value_in_the_training_rows_of_a_fold(written, trial, name, task) -> None:
    random = np.random.default_rng(0)
    features = np.column_stack([random.normal(size=60), np.full(60, np.nan), np.full(60, np.nan)])
    target = (features[:, 0] > 0).astype(int)
    columns = [Column(name="x", kind="numeric"), Column(name="number", kind="numeric")]
    columns += [Column(name="category", kind="categorical", categories=["a"])]
    features[0, 1:] = 7.0, 0.0  # row 0 is in no training rows of its own fold
    result = cross_validate(trial(written(features, target, task=task, columns=columns), name, TASKS[task][1]))
    assert result.value > 0.8 if task == "classification" else result.value < 0.6


def test_auto_uses_the_parameters_of_the_chosen_family_only(table, trial) -> None:
    data = table("diabetes")
    params = {"estimator": "ridge", "ridge.alpha": 3.0, "svm.C": 1.0}
    assert cross_validate(trial(data, "auto", "rmse", params)).folds == (
        cross_validate(trial(data, "ridge", "rmse", {"alpha": 3.0})).folds
    )


def test_what_is_fixed_wins_over_what_is_drawn(table, trial) -> None:
    data = table("diabetes")
    assert cross_validate(trial(data, "ridge", "rmse", {"alpha": 100.0}, fixed={"alpha": 1.0})).folds == (
        cross_validate(trial(data, "ridge", "rmse", {"alpha": 1.0})).folds
    )


def test_warnings_of_a_fit_are_counted_and_not_shown(table, trial) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        result = cross_validate(trial(table("wine"), "mlp", "accuracy", fixed={"max_iter": 2}))
    assert result.metrics["warnings.ConvergenceWarning"] == 5


def test_a_class_that_a_fold_lacks_makes_its_curve_undefined_with_advice(written, trial) -> None:
    features, target = np.random.default_rng(0).normal(size=(60, 2)), np.repeat([0, 1], 30)
    data = written(features, target, fold=np.repeat([0, 1, 2], 20))
    with pytest.raises(DataError, match=r"roc_auc is nan on fold 1 of 3\. A class may be missing"):
        cross_validate(trial(data, "random_forest", "roc_auc", QUICK))


def test_rows_that_cannot_be_learned_from_are_named(written, trial) -> None:
    features, target = np.random.default_rng(0).normal(size=(60, 2)), np.repeat([0, 1], 30)
    data = written(features, target, fold=np.repeat([0, 1], 30), n_folds=2)
    with pytest.raises(DataError, match=r"logistic_regression cannot be fitted on 30 rows: .*class"):
        cross_validate(trial(data, "logistic_regression", "accuracy"))


@pytest.mark.parametrize(
    ("params", "said"),
    [
        ({"alpha": -1.0}, "'alpha' parameter of Ridge must be a float in the range"),
        ({"alpa": 1.0}, "ridge has no parameter 'alpa'. Did you mean alpha"),
    ],
)
def test_a_bad_parameter_says_which_and_why(table, trial, params, said) -> None:
    with pytest.raises(InvalidRequestError, match=said):
        cross_validate(trial(table("diabetes"), "ridge", "rmse", params))


def test_a_metric_of_the_other_task_is_refused(table, trial) -> None:
    with pytest.raises(InvalidRequestError, match="needs classification"):
        cross_validate(trial(table("diabetes"), "ridge", "f1"))


def test_a_worker_runs_it_by_its_name(table) -> None:
    payload = {"folder": table("wine").folder, "estimator": "knn", "metric": "accuracy"}
    task = TrialTask("j", "mcp_server.training.objective:cross_validate", 0, {"n_neighbors": 3}, payload, "")
    done = run_objective(task, lambda *_: False)
    assert done.state == "completed", done.error
    assert len(done.result.folds) == 5
    assert run_objective(task, lambda *_: True).state == "pruned"


def test_a_bad_parameter_reaches_the_study_as_one_sentence(table) -> None:
    payload = {"folder": table("wine").folder, "estimator": "knn", "metric": "accuracy"}
    task = TrialTask("j", "mcp_server.training.objective:cross_validate", 0, {"weights": "odd"}, payload, "")
    failed = run_objective(task, lambda *_: False)
    assert failed.state == "failed"
    assert "The 'weights' parameter of KNeighborsClassifier must be" in failed.error


@pytest.mark.parametrize("threads", [1, 2])
def test_numerical_libraries_keep_to_the_threads_of_the_trial(threads) -> None:
    with limited(threads):
        assert {pool["num_threads"] for pool in threadpool_info()} == {threads}


def test_neighbours_are_no_more_than_the_rows_of_a_fold(written, trial) -> None:
    data = written(np.arange(6.0).reshape(-1, 1), np.array([0.0, 1, 2, 3, 4, 5]), task="regression", n_folds=2)
    result = cross_validate(trial(data, "knn", "mae", {"n_neighbors": 5}))
    assert result.folds == pytest.approx([5 / 3, 5 / 3])  # each is predicted as the mean of the three others


def test_a_machine_is_calibrated_on_a_class_with_fewer_rows_than_calibration_has_folds(written, trial) -> None:
    target = np.array([0, 1] * 14 + [2] * 4)
    features = np.random.default_rng(0).normal(size=(32, 2)) + 3 * target[:, None]
    data = written(features, target, fold=np.array([0, 0, 1, 1] * 8), n_folds=2)
    result = cross_validate(trial(data, "svm", "log_loss"))
    assert all(fold < np.log(3) for fold in result.folds)


def test_an_undefined_metric_of_numbers_is_not_blamed_on_classes(written, trial) -> None:
    data = written(np.arange(3.0).reshape(-1, 1), np.array([0.0, 1, 2]), task="regression", n_folds=3)
    with pytest.raises(DataError, match="r2 is nan on fold 1 of 3") as caught:
        cross_validate(trial(data, "ridge", "r2"))
    assert "class" not in caught.value.hint
