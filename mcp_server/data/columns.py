"""What each column of a table holds, told by its values."""

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from mcp_server.data.text import label

if TYPE_CHECKING:
    import pandas as pd

ColumnKind = Literal["number", "category", "date", "text", "id", "constant", "empty"]

CATEGORY_LIMIT = 255  # the most that scikit-learn's histogram trees take for one feature
_ALWAYS_CATEGORY = 20
_DISTINCT_SHARE = 0.5
_ID_ROWS = 20
_ID_NAME = re.compile(r"(^|[_\W])(id|uuid|guid|index|key|row|nr|no|number)$|[a-z](Id|ID|Key|Number)$|^column_1$")


@dataclass(frozen=True, slots=True)
class ColumnFacts:
    """One column in numbers; `distinct` does not count missing values."""

    name: str
    kind: ColumnKind
    missing: int
    distinct: int
    infinite: int = 0


def facts_of(series: "pd.Series", name: str, *, n_rows: int | None = None) -> ColumnFacts:
    """The kind of a column and its counts; `n_rows` is the table's, when `series` holds some of its rows only."""
    import numpy as np
    from pandas.api import types

    distinct = int(series.nunique())
    is_number = types.is_numeric_dtype(series) and not types.is_bool_dtype(series)
    infinite = int(np.isinf(series.to_numpy(dtype=float, na_value=np.nan)).sum()) if is_number else 0
    missing = int(series.isna().sum())
    return ColumnFacts(
        name,
        _kind(series, name, len(series) - missing, distinct, (n_rows or len(series)) / max(len(series), 1)),
        missing,
        distinct,
        infinite,
    )


def _kind(series: "pd.Series", name: str, filled: int, distinct: int, times: float) -> ColumnKind:
    """The kind of a column; the whole table has `times` as many rows."""
    from pandas.api import types

    if not filled:
        return "empty"
    if distinct == 1 and filled == len(series):
        return "constant"
    if types.is_datetime64_any_dtype(series):
        return "date"
    if types.is_bool_dtype(series):
        return "category"
    if types.is_numeric_dtype(series):
        return "id" if distinct == filled >= _ID_ROWS and _counts_rows(series.dropna(), name, times) else "number"
    if distinct <= CATEGORY_LIMIT and (distinct <= _ALWAYS_CATEGORY or distinct <= _DISTINCT_SHARE * filled):
        return "category"
    is_code = distinct == filled and not series.dropna().str.contains(" ", regex=False).any()
    return "id" if is_code else "text"


def _counts_rows(values: "pd.Series", name: str, times: float) -> bool:
    """Whether whole numbers that are all different number the rows, by their name or because rows leave no gap."""
    if not bool((values % 1 == 0).all()):
        return False
    return bool(_ID_NAME.search(name)) or int(values.max()) - int(values.min()) < times * len(values)


def summarised(series: "pd.Series", facts: ColumnFacts) -> str:
    """The values of a column in a few words."""
    if facts.kind in {"empty", "constant"}:
        return "" if facts.kind == "empty" else label(series.iloc[0], 24)
    values = series.dropna()
    if facts.kind == "number":
        return f"{_short(values.min())} to {_short(values.max())}, median {_short(values.median())}"
    if facts.kind == "date":
        return f"{values.min():%Y-%m-%d} to {values.max():%Y-%m-%d}"
    if facts.kind == "category":
        shares = values.value_counts(normalize=True).head(3)
        return ", ".join(f"{label(value, 16)} {share:.0%}" for value, share in shares.items())
    return f"e.g. {label(values.iloc[0], 24)}"


def _short(number: float) -> str:
    return f"{number:.4g}"
