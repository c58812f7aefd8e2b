from pathlib import Path

import numpy as np
import pytest
from sklearn.metrics import cohen_kappa_score, get_scorer, make_scorer, matthews_corrcoef

from mcp_server.data.arrays import load_development
from mcp_server.data.spec import Column
from mcp_server.errors import InvalidRequestError
from mcp_server.training.estimators import build
from mcp_server.training.metrics import METRICS, default_metric, reported_metrics, resolve
from mcp_server.training.scoring import Predictions, evaluate, predict, score

SIGN_AND_SCORER = {
    "rmse": (-1, "neg_root_mean_squared_error"),
    "mse": (-1, "neg_mean_squared_error"),
    "mae": (-1, "neg_mean_absolute_error"),
    "median_ae": (-1, "neg_median_absolute_error"),
    "mape": (-1, "neg_mean_absolute_percentage_error"),
    "max_error": (-1, "neg_max_error"),
    "log_loss": (-1, "neg_log_loss"),
    "brier": (-1, "neg_brier_score"),
}
MULTICLASS = {"roc_auc": "roc_auc_ovr", "f1": "f1_macro", "precision": "precision_macro", "recall": "recall_macro"}
OTHERS = {"mcc": make_scorer(matthews_corrcoef), "cohen_kappa": make_scorer(cohen_kappa_score)}


def scorer(name: str, n_classes: int):
    sign, found = SIGN_AND_SCORER.get(name, (1, name))
    if n_classes > 2:
        found = MULTICLASS.get(found, found)
    return sign, OTHERS.get(found) or get_scorer(found)


def cases():
    estimators = ("logistic_regression", "random_forest", "svm", "knn", "hist_gradient_boosting")
    for data, n_classes in (("breast_cancer", 2), ("wine", 3)):
        for metric in METRICS:
            if metric.task == "classification" and (n_classes == 2 or metric.multiclass):
                yield from ((data, n_classes, metric, estimator) for estimator in estimators)
    for metric in METRICS:
        if metric.task == "regression":
            yield "diabetes", 0, metric, "ridge"


@pytest.fixture(scope="module")
def fitted(table):
    """Pipelines by data set, estimator and whether they must give probabilities, each fitted once."""
    found = {}

    def fit(name: str, estimator: str, *, probabilities: bool):
        key = (name, estimator, probabilities)
        if key not in found:
            data = table(name)
            arrays = load_development(Path(data.folder))
            train, validation = arrays.splits()[0]
            pipeline = build(estimator, data.task, {}, columns=data.columns, probabilities=probabilities)
            pipeline.fit(arrays.X[train], arrays.y[train])
            found[key] = pipeline, arrays.X[validation], arrays.y[validation]
        return found[key]

    return fit


@pytest.mark.parametrize(
    ("data", "n_classes", "metric", "estimator"),
    [pytest.param(*case, id=f"{case[0]}-{case[2].name}-{case[3]}") for case in cases()],
)
def test_a_score_is_the_number_that_scikit_learn_gives(fitted, data, n_classes, metric, estimator) -> None:
    pipeline, features, target = fitted(data, estimator, probabilities=metric.needed(n_classes) == "probabilities")
    sign, theirs = scorer(metric.name, n_classes)
    assert score(metric, pipeline, features, target, n_classes) == pytest.approx(
        sign * theirs(pipeline, features, target), abs=1e-12
    )


def test_a_minimised_metric_is_an_error_and_a_maximised_one_is_a_merit() -> None:
    y, close, far = np.array([1.0, 2.0, 4.0]), np.array([1.1, 2.1, 4.1]), np.array([4.0, 1.0, 1.0])
    for metric in METRICS:
        if metric.task == "regression":
            better = evaluate(metric, y, Predictions(close), 0) - evaluate(metric, y, Predictions(far), 0)
            assert (better < 0) == (metric.direction == "minimize"), metric.name
    y = np.array([0, 1, 1, 0])
    p = np.array([0.1, 0.7, 0.9, 0.2])
    for metric in METRICS:
        if metric.task == "classification":
            right, wrong = (
                evaluate(metric, y, Predictions((q > 0.5).astype(int), q, np.column_stack([1 - q, q])), 2)
                for q in (p, 1 - p)
            )
            assert (right < wrong) == (metric.direction == "minimize"), metric.name


@pytest.mark.parametrize(
    ("task", "n_classes", "name"),
    [("classification", 2, "roc_auc"), ("classification", 3, "accuracy"), ("regression", 0, "rmse")],
)
def test_the_default_metric_follows_the_task(task, n_classes, name) -> None:
    assert default_metric(task, n_classes).name == name


@pytest.mark.parametrize(
    ("typed", "task", "meant"),
    [
        ("AUC", "classification", "roc_auc"),
        ("neg_log_loss", "classification", "log_loss"),
        ("ROC AUC", "classification", "roc_auc"),
        ("neg_root_mean_squared_error", "regression", "rmse"),
        ("R2", "regression", "r2"),
    ],
)
def test_usual_spellings_of_metrics_are_understood(typed, task, meant) -> None:
    assert resolve(typed, task).name == meant


@pytest.mark.parametrize(
    ("typed", "task", "n_classes", "said"),
    [
        ("acuracy", "classification", 2, "Did you mean accuracy"),
        ("f1", "regression", 0, "The metric f1 needs classification, and the task is regression. Use rmse"),
        ("rmse", "classification", 2, "needs regression"),
        ("brier", "classification", 3, "needs two classes, and the target has 3"),
        ("profit", "regression", 0, "For regression use rmse"),
    ],
)
def test_a_metric_that_does_not_fit_is_refused_with_the_next_step(typed, task, n_classes, said) -> None:
    with pytest.raises(InvalidRequestError) as caught:
        resolve(typed, task, n_classes)
    assert said in str(caught.value)


def test_what_is_reported_beside_a_metric_is_never_the_metric_again() -> None:
    for metric in METRICS:
        for n_classes in (2, 3) if metric.task == "classification" else (0,):
            names = [reported.name for reported in reported_metrics(metric, n_classes)]
            assert names[0] == metric.name
            assert len(names) == len(set(names)) > 1


def test_curves_are_undefined_where_a_class_is_absent() -> None:
    y, p = np.array([0, 0, 1, 1]), np.full((4, 3), 1 / 3)
    for name in ("roc_auc", "average_precision"):
        assert np.isnan(evaluate(resolve(name, "classification"), y, Predictions(ranking=p, probabilities=p), 3))
        assert np.isnan(evaluate(resolve(name, "classification"), y * 0, Predictions(ranking=p[:, 0]), 2))


def test_probabilities_keep_their_class_when_the_training_rows_lack_one(written) -> None:
    random = np.random.default_rng(0)
    features, target = random.normal(size=(60, 2)), np.repeat([0, 2], 30)
    pipeline = build("knn", "classification", {}, columns=written(features, target).columns).fit(features, target)
    predictions = predict(pipeline, features, [resolve("log_loss", "classification")], 3)
    assert predictions.probabilities.shape == (60, 3)
    assert not predictions.probabilities[:, 1].any()
    assert predictions.probabilities[:30, 0].mean() > 0.5 < predictions.probabilities[30:, 2].mean()


@pytest.mark.parametrize("present", [[0, 1, 2], [0, 1], [1, 3]])
@pytest.mark.parametrize("metric", ["average_precision", "roc_auc", "log_loss", "f1"])
@pytest.mark.parametrize("estimator", ["logistic_regression", "random_forest"])
def test_a_class_that_the_training_rows_lack_is_ranked_last_by_every_estimator(estimator, metric, present) -> None:
    truth = np.arange(80) % 4
    features = np.column_stack([truth == code for code in range(4)]) + np.random.default_rng(0).normal(size=(80, 4)) / 9
    train, found = np.isin(truth, present), resolve(metric, "classification", 4)
    columns = [Column(name=f"c{i}", kind="numeric") for i in range(4)]
    pipeline = build(estimator, "classification", {}, columns=columns).fit(features[train], truth[train])
    assert np.isfinite(score(found, pipeline, features, truth, 4))
    if metric == "average_precision":
        known = predict(pipeline, features, [found], 4).of("ranking")[:, present]
        # One of the known classes is always ahead of what was never seen.
        absent = predict(pipeline, features, [found], 4).of("ranking")[:, ~np.isin(range(4), present)]
        assert (known.max(axis=1, keepdims=True) > absent).all()
        assert (known.argmax(axis=1)[train] == np.searchsorted(present, truth[train])).all()
