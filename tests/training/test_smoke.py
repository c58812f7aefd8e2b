from pathlib import Path

import numpy as np
import pytest

from mcp_server.data.arrays import load_development
from mcp_server.data.spec import Column
from mcp_server.errors import InvalidRequestError
from mcp_server.training.estimators import auto_families, family
from mcp_server.training.smoke import _Sample, estimate_seconds


def test_every_family_that_auto_searches_is_timed(table) -> None:
    data = table("diabetes")
    estimate = estimate_seconds(Path(data.folder), ["auto"], "rmse", budget_s=30)
    assert set(estimate.families) == set(auto_families("regression", data.n_rows, len(data.columns)))
    assert estimate.guessed == []
    assert 0 < estimate.low < estimate.median < estimate.high
    assert estimate.families["random_forest"] > estimate.families["ridge"]


@pytest.mark.parametrize("names", [["ridge", "random_forest"], ["random_forest", "ridge"]])
def test_a_study_may_settle_on_the_faster_or_the_slower_families(table, names) -> None:
    estimate = estimate_seconds(Path(table("diabetes").folder), names, "rmse", budget_s=30)
    ridge, forest = estimate.families["ridge"], estimate.families["random_forest"]
    assert estimate.low < ridge < (ridge + forest) / 2 == pytest.approx(estimate.median)
    assert estimate.high > forest


def test_what_the_budget_does_not_allow_is_guessed_from_what_was_measured(table) -> None:
    estimate = estimate_seconds(Path(table("wine").folder), ["random_forest", "mlp"], "accuracy", budget_s=1e-6)
    assert set(estimate.guessed) == {"random_forest", "mlp"}
    assert estimate.families["mlp"] > estimate.families["random_forest"] > 0


def test_more_rows_take_longer_by_each_familys_own_growth(written) -> None:
    random = np.random.default_rng(0)

    def factor(n_rows: int, name: str) -> float:
        data = written(random.normal(size=(n_rows, 5)), random.normal(size=n_rows), task="regression")
        return _Sample.of(load_development(Path(data.folder)), "rmse", 0, 1).factor(family(name))

    assert factor(60_000, "svm") / factor(6_000, "svm") == pytest.approx(10**2)
    assert factor(60_000, "random_forest") / factor(6_000, "random_forest") == pytest.approx(10**1.1)
    assert factor(1_000, "svm") == pytest.approx(factor(2_000, "svm"))  # the sample is the whole fold


def test_a_table_far_too_large_to_fit_is_still_answered(written) -> None:
    """10,000 columns and 300 classes: one default fit of boosting would take the better part of an hour."""
    random = np.random.default_rng(0)
    features, target = random.normal(size=(1_200, 10_000)), np.arange(1_200) % 300
    columns = [Column(name=f"c{i}", kind="numeric") for i in range(9_990)]
    columns += [Column(name=f"k{i}", kind="categorical", categories=[str(j) for j in range(50)]) for i in range(10)]
    features[:, 9_990:] = random.integers(0, 50, (1_200, 10))
    data = written(features, target, columns=columns)
    everything = ["auto", "gradient_boosting", "knn"]
    estimate = estimate_seconds(Path(data.folder), everything, "log_loss", budget_s=2)
    assert {"gradient_boosting", "mlp", "svm"} <= set(estimate.families)
    assert estimate.families["hist_gradient_boosting"] > 60 * estimate.families["knn"]


@pytest.mark.parametrize(("estimator", "metric"), [("xgboost", "rmse"), ("ridge", "f1")])
def test_an_estimate_of_what_is_not_there_is_refused(table, estimator, metric) -> None:
    with pytest.raises(InvalidRequestError):
        estimate_seconds(Path(table("diabetes").folder), [estimator], metric)
