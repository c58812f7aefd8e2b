"""What a study will have cost, and when it will be done, from the trials that are over."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import NormalDist, fmean, stdev

FEWEST = 3
_LEVEL = 0.95


@dataclass(frozen=True)
class Interval:
    """The likely amount between the low and the high one of a 95 % interval."""

    low: float
    likely: float
    high: float


def total_of(known: Sequence[float], remaining: int, *, spent: float = 0.0) -> Interval | None:
    """What is `spent` and as many more draws as `remain` add up to; None when too few are `known`.

    The interval is that of a sum of further draws from the same normal distribution: the sum of r draws lies within
    t * s * sqrt(r + r * r / n) of r times the mean of n (see any text on prediction intervals, for example
    Hahn and Meeker, Statistical Intervals, 1991). It is no less than what is spent.

    >>> total_of([1.0, 1.0, 1.0, 1.0], remaining=2, spent=4.0)
    Interval(low=6.0, likely=6.0, high=6.0)
    """
    n = len(known)
    if n < FEWEST:
        return None
    likely = spent + remaining * fmean(known)
    spread = _t(n - 1) * stdev(known) * math.sqrt(remaining + remaining * remaining / n)
    return Interval(max(spent, likely - spread), likely, likely + spread)


def _t(freedom: int) -> float:
    """Student's quantile, by the expansion of Fisher and Cornish (1960) from the normal one."""
    z = NormalDist().inv_cdf((1 + _LEVEL) / 2)
    first = (z**3 + z) / 4
    second = (5 * z**5 + 16 * z**3 + 3 * z) / 96
    third = (3 * z**7 + 19 * z**5 + 17 * z**3 - 15 * z) / 384
    return z + first / freedom + second / freedom**2 + third / freedom**3
