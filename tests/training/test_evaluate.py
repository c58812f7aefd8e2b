import math
from pathlib import Path

import numpy as np
import pytest

from mcp_server.data.arrays import load_development
from mcp_server.data.sealed import load_sealed
from mcp_server.errors import DataError
from mcp_server.training.estimators import build
from mcp_server.training.evaluate import final_test
from mcp_server.training.metrics import resolve
from mcp_server.training.objective import cross_validate
from mcp_server.training.scoring import score

QUICK = {"n_estimators": 20}


def separable(n_rows: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    random = np.random.default_rng(seed)
    features = random.normal(size=(n_rows, 3))
    return features, (features[:, 0] + random.normal(scale=0.7, size=n_rows) > 0).astype(int)


def test_the_value_stands_in_its_interval_above_a_model_that_ignores_the_features(table, trial) -> None:
    result = final_test(trial(table("breast_cancer"), "logistic_regression", "roc_auc"))
    assert 0.9 < result.metrics["low"] < result.value < result.metrics["high"] <= 1
    assert result.metrics["dummy"] == 0.5
    assert {"accuracy", "f1", "fit_seconds", "predict_seconds"} <= set(result.metrics)


def test_the_score_is_that_of_a_fit_on_every_development_row(table, trial) -> None:
    data = table("breast_cancer")
    rows = load_development(Path(data.folder))
    pipeline = build("logistic_regression", data.task, {}, columns=data.columns).fit(rows.X, rows.y)
    expected = score(resolve("log_loss", data.task, 2), pipeline, *load_sealed(Path(data.folder)), 2)
    assert final_test(trial(data, "logistic_regression", "log_loss")).value == pytest.approx(expected, rel=1e-9)


@pytest.mark.parametrize(("data", "metric"), [("diabetes", "rmse"), ("diabetes", "mae"), ("wine", "log_loss")])
def test_a_model_that_ignores_the_features_is_worse(table, trial, data, metric) -> None:
    result = final_test(trial(table(data), "random_forest", metric, QUICK))
    assert result.metrics["low"] <= result.value <= result.metrics["high"] < result.metrics["dummy"]


def test_the_interval_of_a_share_is_as_wide_as_its_binomial_one(written, trial) -> None:
    data = written(*separable(300, 0), sealed=separable(200, 1))
    result = final_test(trial(data, "logistic_regression", "accuracy"))
    error = math.sqrt(result.value * (1 - result.value) / 200)
    assert result.metrics["high"] - result.metrics["low"] == pytest.approx(2 * 1.96 * error, rel=0.15)


def test_the_interval_depends_on_the_seed_only(table, trial) -> None:
    data = table("wine")
    low = [final_test(trial(data, "knn", "accuracy", seed=seed)).metrics["low"] for seed in (0, 0)]
    assert low[0] == low[1]


@pytest.fixture
def loaded(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The array files that NumPy opens, in order, as `folder/name`."""
    opened: list[str] = []
    load = np.load

    def recorded(file: Path, **options: object) -> np.ndarray:
        opened.append(f"{file.parent.name}/{file.stem}")
        return load(file, **options)

    monkeypatch.setattr(np, "load", recorded)
    return opened


def test_the_sealed_rows_are_read_once(table, trial, loaded) -> None:
    final_test(trial(table("wine"), "knn", "accuracy"))
    assert [name for name in loaded if name.startswith("sealed/")] == ["sealed/X", "sealed/y"]


def test_a_search_never_reads_the_sealed_rows(written, trial, loaded) -> None:
    features, target = separable(90, 0)
    poison = np.full((10, 3), np.nan), np.full(10, 99)
    clean, poisoned = written(features, target), written(features, target, sealed=poison)
    first, second = (cross_validate(trial(data, "logistic_regression", "roc_auc")).folds for data in (clean, poisoned))
    assert first == second
    assert loaded
    assert not [name for name in loaded if name.startswith("sealed/")]


def test_a_table_without_sealed_rows_says_how_to_seal_some(written, trial) -> None:
    with pytest.raises(DataError, match="test_size"):
        final_test(trial(written(*separable(90, 0)), "logistic_regression", "accuracy"))


def test_a_test_set_of_one_class_has_no_curve(written, trial) -> None:
    features, target = separable(90, 0)
    data = written(features, target, sealed=(features[target == 0][:9], target[target == 0][:9]))
    with pytest.raises(DataError, match="roc_auc is nan on the 9 sealed rows"):
        final_test(trial(data, "logistic_regression", "roc_auc"))


def test_no_interval_is_better_than_a_wrong_one(written, trial) -> None:
    features, target = separable(90, 0)
    rows = np.r_[np.flatnonzero(target == 0)[:1], np.flatnonzero(target == 1)[:1]]
    result = final_test(trial(written(features, target, sealed=(features[rows], target[rows])), "knn", "roc_auc"))
    assert result.value in {0.0, 0.5, 1.0}
    assert "low" not in result.metrics


def test_absolute_errors_are_compared_with_the_median_and_squared_ones_with_the_mean(written, trial) -> None:
    features, skewed = np.arange(30.0).reshape(-1, 1), np.array([1.0] * 20 + [100.0] * 10)
    data = written(features, skewed, task="regression", sealed=(features[:4], skewed[:4]))
    dummy = {metric: final_test(trial(data, "ridge", metric)).metrics["dummy"] for metric in ("mae", "rmse")}
    assert dummy == {"mae": 0.0, "rmse": pytest.approx(33.0)}
