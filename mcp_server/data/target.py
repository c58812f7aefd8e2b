"""The column to predict: which one it may be, what kind of task it makes, and its numbers."""

import re
from collections.abc import Sequence
from typing import TYPE_CHECKING, cast

from mcp_server.data.columns import ColumnFacts
from mcp_server.data.text import label, listed
from mcp_server.errors import DataError
from mcp_server.types import Scalar, Task

if TYPE_CHECKING:
    import numpy as np
    import pandas as pd

_NAMES = re.compile(
    r"^(target|label|class|y|outcome|survived|churn(ed)?|default(ed)?|diagnosis|species|variety|quality|price|"
    r"sale_?price|income|fraud|is_fraud|exited|attrition|converted|clicked|response|result|status|approved|medv|"
    r"median_house_value|charges|rating|score|cnt|count|demand|sales)$",
    re.IGNORECASE,
)
_MANY_CLASSES = 100
_INTEGER_CLASSES = 20
_LIKELY_CLASSES = 10
_CANDIDATES = 4
_CLASS_CELL = 16


def inferred_task(series: "pd.Series") -> Task:
    """Classification for text, true/false and a few whole numbers; regression for other numbers."""
    from pandas.api import types

    is_number = types.is_numeric_dtype(series) and not types.is_bool_dtype(series)
    return "regression" if is_number and not _few_integers(series) else "classification"


def _few_integers(series: "pd.Series") -> bool:
    values = series.dropna().unique()
    return len(values) <= _INTEGER_CLASSES and bool((values % 1 == 0).all())


def likely_targets(facts: Sequence[ColumnFacts]) -> list[str]:
    """Columns that people would want to predict, best first: known names, then the last one, then yes/no columns."""
    usable = [fact for fact in facts if fact.kind in {"number", "category"}]
    named = [fact.name for fact in usable if _NAMES.search(fact.name.strip())]
    last = [fact.name for fact in usable[-1:] if fact is facts[-1]]
    binary = [fact.name for fact in usable if fact.distinct == 2]  # noqa: PLR2004 - yes or no
    few = [fact.name for fact in usable if fact.kind == "category" and fact.distinct <= _LIKELY_CLASSES]
    return list(dict.fromkeys([*named, *last, *binary, *few]))[:_CANDIDATES]


def checked_task(series: "pd.Series", name: str, task: Task | None) -> Task:
    """The task, when the filled values of the target allow it.

    Raises:
        DataError: If there is one value only, or the values fit another task.
    """
    from pandas.api import types

    values = series.nunique()
    if types.is_datetime64_any_dtype(series):
        raise DataError(
            f"Target {label(name)!r} holds dates.", hint="Pass a target that is a number or a class, e.g. days until."
        )
    if values == 1:
        raise DataError(
            f"Target {label(name)!r} has one value ({label(series.iloc[0], _CLASS_CELL)}): nothing to learn.",
            hint="Pass another target, or rows with other values.",
        )
    task = task or inferred_task(series)
    is_number = types.is_numeric_dtype(series)
    if task == "regression" and not is_number:
        raise DataError(
            f"Target {label(name)!r} is not a number, so regression cannot predict it.",
            hint='Pass task="classification", or another target.',
        )
    if task == "classification" and values > _MANY_CLASSES and is_number:
        raise DataError(
            f"Target {label(name)!r} has {values:,} different numbers: that looks like regression.",
            hint='Pass task="regression", or group the numbers into classes.',
        )
    if task == "classification" and values > _MANY_CLASSES and values > len(series) / 2:
        raise DataError(
            f"Target {label(name)!r} has {values:,} different values in {len(series):,} rows: nothing repeats.",
            hint="Pass a column with a few classes.",
        )
    return task


def encoded_target(series: "pd.Series", task: Task) -> tuple["np.ndarray", list[Scalar]]:
    """Class codes with the sorted classes they stand for, or floats and no classes."""
    import numpy as np

    if task == "regression":
        return series.to_numpy(dtype=np.float64), []
    classes = sorted(series.unique().tolist())
    codes = series.map({value: code for code, value in enumerate(classes)})
    return codes.to_numpy(dtype=np.int64), [_scalar(value) for value in classes]


def _scalar(value: object) -> Scalar:
    if isinstance(value, float) and value.is_integer():
        return int(value)
    return cast("Scalar", value)


def check_class_sizes(counts: Sequence[int], classes: Sequence[Scalar], needed: int, why: str) -> None:
    """Nothing, when every class has `needed` rows.

    Raises:
        DataError: If not, with the classes that are too small.
    """
    small = [
        f"{label(value, _CLASS_CELL)} ({count})" for value, count in zip(classes, counts, strict=True) if count < needed
    ]
    if small:
        raise DataError(
            f"Classes of the target with too few rows: {listed(small)}; each needs >= {needed} {why}.",
            hint="Leave out or merge rare classes, or pass a smaller cv_folds.",
        )
