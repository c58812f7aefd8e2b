"""What may come back from an objective."""

import math
import numbers
from collections.abc import Mapping

from mcp_server.execution._base import TrialResult
from mcp_server.types import shown

PARTS_LIMIT = 10_000
NAME_LIMIT = 250


class InvalidResultError(ValueError):
    """What the objective returned cannot be optimised; the text says why."""


def checked_result(returned: object) -> TrialResult:
    """What an objective returned, as a result of plain finite floats.

    Numbers of any library are taken (`numpy.float32(0.5)`, a tensor with one value). Extra metrics that are not finite
    are left out, because a store would refuse them and the objective value does not depend on them.

    Raises:
        InvalidResultError: If a value to optimise is missing, not a number or not finite.

    >>> checked_result(1).value
    1.0
    >>> checked_result(float("nan"))
    Traceback (most recent call last):
        ...
    mcp_server.execution.results.InvalidResultError: objective returned nan
    """
    if not isinstance(returned, TrialResult):
        return TrialResult(_finite(returned, "objective returned"))
    for what, values in (("folds", returned.folds), ("metrics", returned.metrics)):
        if len(values) > PARTS_LIMIT:
            raise InvalidResultError(f"objective returned {len(values):,} {what}, and {PARTS_LIMIT:,} are allowed")
    return TrialResult(
        value=_finite(returned.value, "objective returned"),
        std=None if returned.std is None else _finite(returned.std, "objective returned a result with std"),
        folds=[_finite(fold, f"objective returned fold {i} as") for i, fold in enumerate(returned.folds)],
        metrics=_finite_metrics(returned.metrics),
    )


def _finite_metrics(metrics: Mapping[str, object]) -> dict[str, float]:
    if long := next((name for name in metrics if len(str(name)) > NAME_LIMIT), None):
        raise InvalidResultError(f"objective returned a metric whose name is too long: {shown(long)}")
    values = {str(name): _number(value, f"objective returned metric {name!r} as") for name, value in metrics.items()}
    return {name: value for name, value in values.items() if math.isfinite(value)}


def _finite(value: object, what: str) -> float:
    number = _number(value, what)
    if not math.isfinite(number):
        raise InvalidResultError(f"{what} {number}")
    return number


def _number(value: object, what: str) -> float:
    item = getattr(value, "item", None)
    if item is not None and getattr(value, "shape", None) == ():
        value = item()  # a NumPy scalar or a tensor with one value
    if isinstance(value, bool) or not isinstance(value, numbers.Real):
        raise InvalidResultError(f"{what} {shown(value)} ({type(value).__name__}) and not a number")
    try:
        return float(value)
    except OverflowError:
        raise InvalidResultError(f"{what} a number that is too large") from None
