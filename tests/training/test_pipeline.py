import re

import numpy as np
import pytest

from mcp_server.data.spec import Column
from mcp_server.errors import InvalidRequestError
from mcp_server.training.estimators import build, families, model_class
from mcp_server.training.metrics import resolve
from mcp_server.training.scoring import predict

MISSING = np.nan
MIXED = [
    Column(name="age", kind="numeric"),
    Column(name="town", kind="categorical", categories=["a", "b", "c"]),
    Column(name="when", kind="datetime"),
]
SERVED = [(name, task) for task in ("classification", "regression") for name in families(task)]


def mixed_rows(n_rows: int = 90) -> tuple[np.ndarray, np.ndarray]:
    random = np.random.default_rng(0)
    features = np.column_stack(
        [random.normal(40, 10, n_rows), random.integers(0, 3, n_rows), random.integers(18_000, 20_000, n_rows)]
    ).astype(float)
    features[::7, 0], features[::5, 1], features[::11, 2] = MISSING, MISSING, MISSING
    return features, random.integers(0, 2, n_rows)


@pytest.mark.parametrize(("name", "task"), SERVED)
def test_every_family_takes_missing_values_and_categories_it_has_not_seen(name: str, task: str) -> None:
    features, target = mixed_rows()
    train = np.flatnonzero(features[:, 1] != 2)
    pipeline = build(name, task, {}, columns=MIXED).fit(features[train], target[train])
    assert np.isfinite(pipeline.predict(features)).all()


@pytest.mark.parametrize(("name", "task"), SERVED)
def test_every_family_takes_a_table_of_one_kind_of_column(name: str, task: str) -> None:
    features, target = mixed_rows()
    for i, column in enumerate(MIXED):
        pipeline = build(name, task, {}, columns=[column]).fit(features[:, [i]], target)
        assert np.isfinite(pipeline.predict(features[:, [i]])).all()


@pytest.mark.parametrize(("name", "task"), SERVED)
def test_the_same_seed_gives_the_same_model_and_threads_do_not_matter(name: str, task: str) -> None:
    features, target = mixed_rows()
    one, other = (
        build(name, task, {}, columns=MIXED, seed=5, threads=threads).fit(features, target).predict(features)
        for threads in (1, 2)
    )
    assert np.allclose(one, other, rtol=1e-12, atol=0)  # threads add up the trees of a forest in any order


def test_seed_and_threads_reach_the_estimator() -> None:
    model = build("random_forest", "regression", {}, columns=MIXED, seed=5, threads=2)[-1]
    assert (model.random_state, model.n_jobs) == (5, 2)


def test_scaling_makes_linear_models_blind_to_units() -> None:
    features, target = mixed_rows()
    in_other_units = features * [1000.0, 1.0, 1.0]
    assert np.allclose(
        *(build("ridge", "regression", {}, columns=MIXED).fit(X, target).predict(X) for X in (features, in_other_units))
    )


def test_a_support_vector_regressor_does_not_depend_on_the_units_of_its_target() -> None:
    features, _ = mixed_rows()
    target = np.nan_to_num(features[:, 0])
    cents, euros = (
        build("svm", "regression", {}, columns=MIXED).fit(features, target * k).predict(features) / k for k in (100, 1)
    )
    assert np.allclose(cents, euros)
    assert np.corrcoef(euros, target)[0, 1] > 0.9


def test_boosting_is_told_which_columns_are_categories_up_to_what_it_can_bin() -> None:
    many = Column(name="id", kind="categorical", categories=[str(i) for i in range(256)])
    model = build("hist_gradient_boosting", "regression", {}, columns=[*MIXED, many])[-1]
    assert model.categorical_features == [False, True, False, False]


def test_a_machine_without_probabilities_is_calibrated_only_where_a_metric_needs_them() -> None:
    features, target = mixed_rows()
    plain = build("svm", "classification", {}, columns=MIXED)[-1]
    calibrated = build("svm", "classification", {}, columns=MIXED, probabilities=True).fit(features, target)
    found = predict(calibrated, features, [resolve("log_loss", "classification")], 2).probabilities
    assert isinstance(plain, model_class("svm", "classification"))
    assert np.allclose(found.sum(axis=1), 1)


def test_layer_sizes_travel_as_text() -> None:
    assert build("mlp", "regression", {"hidden_layer_sizes": "50,20"}, columns=MIXED)[
        -1
    ].regressor.hidden_layer_sizes == (50, 20)
    with pytest.raises(InvalidRequestError, match=re.escape('such as "100,50"')):
        build("mlp", "classification", {"hidden_layer_sizes": "wide"}, columns=MIXED)


@pytest.mark.parametrize(
    ("params", "said"),
    [
        ({"max_dept": 3}, "random_forest has no parameter 'max_dept'. Did you mean max_depth"),
        ({"qqqq": 3}, "Known: bootstrap"),
        ({"n_jobs": -1}, "n_jobs is set by the study"),
        ({"random_state": 1}, "random_state is set by the study"),
    ],
)
def test_a_parameter_that_the_estimator_lacks_is_refused_with_near_names(params: dict, said: str) -> None:
    with pytest.raises(InvalidRequestError) as caught:
        build("random_forest", "classification", params, columns=MIXED)
    assert said in str(caught.value)
