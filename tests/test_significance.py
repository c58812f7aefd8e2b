import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from mcp_server.significance import Comparison, corrected_t_test, holm, judged, wilcoxon_test

SCORES = st.lists(st.floats(0.0, 1.0), min_size=2, max_size=20)


def test_the_correction_is_the_one_of_the_paper() -> None:
    a, b = [0.80, 0.85, 0.78, 0.82, 0.81], [0.84, 0.86, 0.83, 0.82, 0.86]
    differences = np.subtract(b, a)

    found = corrected_t_test(a, b)

    error = math.sqrt((1 / 5 + 1 / 4) * np.var(differences, ddof=1))
    assert found.difference == pytest.approx(np.mean(differences))
    assert found.standard_error == pytest.approx(error)
    assert found.p_value == pytest.approx(2 * stats.t.sf(np.mean(differences) / error, 4))
    assert (found.low, found.high) == pytest.approx(stats.t.interval(0.95, 4, loc=np.mean(differences), scale=error))


def test_the_share_of_rows_that_were_tested_replaces_that_of_folds() -> None:
    a, b = [0.8, 0.85, 0.78], [0.84, 0.86, 0.83]

    assert corrected_t_test(a, b, test_share=0.5).standard_error == corrected_t_test(a, b).standard_error
    assert corrected_t_test(a, b, test_share=0.1).standard_error < corrected_t_test(a, b).standard_error


@given(SCORES, st.data())
def test_swapping_two_models_turns_the_signs_and_nothing_else(a: list[float], data: st.DataObject) -> None:
    b = data.draw(st.lists(st.floats(0.0, 1.0), min_size=len(a), max_size=len(a)))

    one, other = corrected_t_test(a, b), corrected_t_test(b, a)

    assert one.p_value == pytest.approx(other.p_value)
    assert (one.low, one.high) == pytest.approx((-other.high, -other.low))
    assert one.low <= one.difference <= one.high


def test_models_that_score_alike_in_every_fold_do_not_differ() -> None:
    same = corrected_t_test([0.5, 0.6], [0.5, 0.6])

    assert (same.difference, same.p_value, same.effect_size) == (0.0, 1.0, 0.0)


def test_the_rank_test_is_that_of_scipy_and_needs_pairs_enough_to_decide() -> None:
    a = [0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7]
    b = [0.2, 0.4, 0.35, 0.45, 0.3, 0.9, 0.72]

    found = wilcoxon_test(a, b)

    assert found.p_value == pytest.approx(stats.wilcoxon(np.subtract(b, a)).pvalue)
    assert -1.0 <= found.effect_size <= 1.0
    with pytest.raises(ValueError, match="needs 6 pairs, got 5"):
        wilcoxon_test(a[:5], b[:5])


@pytest.mark.parametrize(("a", "b"), [([0.1], [0.2]), ([0.1, 0.2], [0.1])])
def test_scores_that_make_no_pairs_are_refused(a: list[float], b: list[float]) -> None:
    with pytest.raises(ValueError, match="pair"):
        corrected_t_test(a, b)


@given(st.lists(st.floats(0.0, 1.0), min_size=1, max_size=12))
def test_an_adjusted_p_value_is_never_smaller_and_keeps_the_order(p_values: list[float]) -> None:
    adjusted = holm(p_values)

    assert all(p <= q <= 1.0 for p, q in zip(p_values, adjusted, strict=True))
    order = np.argsort(p_values, kind="stable")
    assert np.all(np.diff(np.asarray(adjusted)[order]) >= 0)


def compared(low: float, difference: float, high: float, p_value: float) -> Comparison:
    return Comparison(difference, 0.01, low, high, p_value, 0.5, 5, "corrected_t")


@pytest.mark.parametrize(
    ("comparison", "direction", "verdict"),
    [
        (compared(0.01, 0.03, 0.05, 0.01), "maximize", "better"),
        (compared(0.01, 0.03, 0.05, 0.01), "minimize", "worse"),
        (compared(-0.05, 0.03, 0.11, 0.4), "maximize", "undecided"),
        (compared(-0.004, 0.001, 0.006, 0.6), "maximize", "equivalent"),
        (compared(0.001, 0.004, 0.007, 0.01), "maximize", "equivalent"),  # surely better, by too little to matter
    ],
)
def test_a_verdict_weighs_the_difference_against_what_matters(
    comparison: Comparison, direction: str, verdict: str
) -> None:
    assert judged(comparison, direction, 0.01) == verdict  # type: ignore[arg-type]


def resampled_scores(rows: np.ndarray, labels: np.ndarray, splits: list[np.ndarray]) -> list[float]:
    """Accuracies of a least-squares classifier on random splits; `splits` has the rows to train on."""
    scores = []
    for train in splits:
        weights = np.linalg.lstsq(rows[train], labels[train], rcond=None)[0]
        scores.append(float(np.mean(np.sign(rows[~train] @ weights) == labels[~train])))
    return scores


def test_equal_models_are_called_different_no_more_often_than_promised_unlike_by_the_naive_test() -> None:
    rng = np.random.default_rng(7)
    naive = corrected = 0
    for _ in range(500):
        labels = rng.choice([-1.0, 1.0], 120)
        rows = rng.normal(size=(120, 10)) + 0.3 * labels[:, None]  # two halves of features that are worth the same
        splits = [rng.permutation(120) < 80 for _ in range(15)]
        a, b = (resampled_scores(half, labels, splits) for half in (rows[:, :5], rows[:, 5:]))
        corrected += corrected_t_test(a, b, test_share=0.5).p_value < 0.05
        naive += stats.ttest_rel(a, b).pvalue < 0.05

    assert corrected / 500 <= 0.07
    assert naive / 500 > 0.2, "or the simulation would not show why the test is corrected"
