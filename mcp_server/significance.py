"""Whether one model is better than another on the same folds: pure functions of numbers.

scipy is imported when a test is made, because a server must not load it at its start.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import fmean, variance
from typing import Literal

from mcp_server.types import Direction

Verdict = Literal["better", "worse", "equivalent", "undecided"]
PAIRS_FOR_WILCOXON = 6  # with five pairs its smallest two-sided p is 0.0625, so it can never decide at 0.05


@dataclass(frozen=True)
class Comparison:
    """How B differs from A: `difference` is mean(B) - mean(A) in the metric's own unit."""

    difference: float
    standard_error: float
    low: float
    high: float
    p_value: float
    effect_size: float
    n_pairs: int
    test: Literal["corrected_t", "wilcoxon"]


def corrected_t_test(
    a: Sequence[float], b: Sequence[float], *, test_share: float | None = None, confidence: float = 0.95
) -> Comparison:
    """The corrected resampled t-test of paired scores.

    Training sets of resampled splits overlap, so differences are correlated and the plain paired t-test calls equal
    models different far too often. The variance of the mean is taken as `(1/k + r) * variance` with r = rows tested
    over rows trained; for k folds r = 1 / (k - 1). Source: Nadeau and Bengio, Inference for the Generalization Error,
    2003.

    Args:
        a: Scores of the first model, one for each fold.
        b: Scores of the second model on the same folds, in the same order.
        test_share: Rows tested over rows trained; that of k-fold cross-validation when omitted.
        confidence: Of the interval around the difference.

    Raises:
        ValueError: If there are fewer than two pairs, or not as many scores of each.

    >>> result = corrected_t_test([0.80, 0.85, 0.78, 0.82, 0.81], [0.84, 0.88, 0.83, 0.85, 0.86])
    >>> round(result.difference, 3), result.p_value < 0.01
    (0.04, True)
    """
    differences = _paired(a, b)
    k = len(differences)
    mean, spread = fmean(differences), variance(differences)
    error = corrected_standard_error(differences, test_share)
    low, high, p = _student(mean, error, k - 1, confidence)
    effect = mean / math.sqrt(spread) if spread > 0 else math.copysign(math.inf, mean) if mean else 0.0
    return Comparison(mean, error, low, high, p, effect, k, "corrected_t")


def corrected_standard_error(differences: Sequence[float], test_share: float | None = None) -> float:
    """Standard error of the mean of two or more paired differences; see `corrected_t_test`."""
    k = len(differences)
    ratio = 1 / (k - 1) if test_share is None else test_share
    return math.sqrt((1 / k + ratio) * variance(differences))


def wilcoxon_test(a: Sequence[float], b: Sequence[float], *, confidence: float = 0.95) -> Comparison:
    """The signed-rank test of paired scores (Wilcoxon 1945), for scores whose differences are far from normal.

    The interval is still that of the corrected t-test, and the effect size is the matched-pairs rank-biserial
    correlation (Kerby 2014), from -1 to 1.

    Raises:
        ValueError: If there are too few pairs for it to decide anything.
    """
    differences = _paired(a, b)
    if len(differences) < PAIRS_FOR_WILCOXON:
        raise ValueError(f"the Wilcoxon test needs {PAIRS_FOR_WILCOXON} pairs, got {len(differences)}")
    interval = corrected_t_test(a, b, confidence=confidence)
    if not any(differences):
        return Comparison(0.0, interval.standard_error, interval.low, interval.high, 1.0, 0.0, len(a), "wilcoxon")
    from scipy.stats import rankdata, wilcoxon

    p = float(wilcoxon(differences).pvalue)
    moved = [d for d in differences if d]
    ranks = rankdata([abs(d) for d in moved])
    signed = sum(rank if d > 0 else -rank for d, rank in zip(moved, ranks, strict=True))
    effect = float(signed / sum(ranks))
    return Comparison(
        interval.difference, interval.standard_error, interval.low, interval.high, p, effect, len(a), "wilcoxon"
    )


def holm(p_values: Sequence[float]) -> list[float]:
    """The p-values adjusted for being several, in the same order.

    Source: Holm, A Simple Sequentially Rejective Multiple Test Procedure, 1979.

    >>> holm([0.01, 0.04, 0.03])
    [0.03, 0.06, 0.06]
    """
    adjusted = [0.0] * len(p_values)
    largest = 0.0
    for rank, i in enumerate(sorted(range(len(p_values)), key=p_values.__getitem__)):
        largest = max(largest, min(1.0, p_values[i] * (len(p_values) - rank)))
        adjusted[i] = largest
    return adjusted


def judged(
    comparison: Comparison, direction: Direction, margin: float, *, p_value: float | None = None, alpha: float = 0.05
) -> Verdict:
    """What the comparison says of B: a difference inside `margin` does not matter in practice.

    Better or worse needs a significant difference; equivalent needs the whole interval inside the margin, so that few
    folds do not pass for proof that two models are the same.
    """
    p = comparison.p_value if p_value is None else p_value
    if -margin < comparison.low and comparison.high < margin:
        return "equivalent"
    if p >= alpha:
        return "undecided"
    gain = comparison.difference if direction == "maximize" else -comparison.difference
    return "better" if gain > 0 else "worse"


def _paired(a: Sequence[float], b: Sequence[float]) -> list[float]:
    if len(a) != len(b):
        raise ValueError(f"{len(a)} scores cannot be paired with {len(b)}")
    if len(a) < 2:  # noqa: PLR2004 - no variance below two
        raise ValueError(f"a comparison needs two pairs, got {len(a)}")
    return [second - first for first, second in zip(a, b, strict=True)]


def _student(mean: float, error: float, freedom: int, confidence: float) -> tuple[float, float, float]:
    """Interval and two-sided p-value of a mean with this standard error."""
    if error == 0:
        return mean, mean, 0.0 if mean else 1.0
    from scipy.stats import t

    reach = float(t.ppf((1 + confidence) / 2, freedom)) * error
    return mean - reach, mean + reach, float(2 * t.sf(abs(mean / error), freedom))
