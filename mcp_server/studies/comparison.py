"""Whether one trial is better than another, and how a study went: pure functions of numbers."""

from collections.abc import Sequence
from itertools import accumulate
from statistics import fmean

from mcp_server import significance
from mcp_server.types import Direction

_BARS = "▁▂▃▄▅▆▇█"


def corrected_standard_error(folds: list[float], others: list[float]) -> float | None:
    """Standard error of the mean difference of two models scored on the same k folds.

    Training sets of k-fold cross-validation overlap, so the plain one is too small; the variance is multiplied by
    1/k + 1/(k-1) instead of 1/k (Nadeau and Bengio, Inference for the Generalization Error, 2003).

    >>> round(corrected_standard_error([0.8, 0.9, 0.85], [0.7, 0.85, 0.85]), 4)
    0.0456
    """
    if len(folds) < 2 or len(others) != len(folds):  # noqa: PLR2004 - no variance below two
        return None
    return significance.corrected_standard_error([a - b for a, b in zip(folds, others, strict=True)])


def verdict(difference: float, error: float | None, *, is_baseline: bool) -> str:
    """One sentence on whether the best trial is better than the defaults, with `error` the standard error of that."""
    if is_baseline:
        return "No trial beat the defaults."
    size = f"{abs(difference):.4g}"
    if error is None:
        return f"It differs from the defaults by {size}; with one validation score the noise is unknown."
    if abs(difference) > 2 * error:
        return f"It beats the defaults by {size}, more than twice the noise ({error:.2g})."
    return f"It is {size} better than the defaults, within the noise ({error:.2g}): not clearly better."


def running_best(values: Sequence[float], direction: Direction) -> list[float]:
    """The best value up to each trial.

    >>> running_best([0.5, 0.4, 0.7], "maximize")
    [0.5, 0.5, 0.7]
    """
    return list(accumulate(values, max if direction == "maximize" else min))


def sparkline(values: Sequence[float], width: int = 12) -> str | None:
    """The values as at most `width` bars, None when there are too few to draw.

    >>> sparkline([0.0, 0.5, 1.0])
    '▁▅█'
    """
    if len(values) < 3:  # noqa: PLR2004 - a line needs some points
        return None
    width = min(width, len(values))
    points = [fmean(values[i * len(values) // width : (i + 1) * len(values) // width]) for i in range(width)]
    low, span = min(points), (max(points) - min(points)) or 1.0
    return "".join(_BARS[round((p - low) / span * (len(_BARS) - 1) + 1e-9)] for p in points)
