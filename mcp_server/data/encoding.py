"""Columns as floats: numbers, category codes, days since 1970; NaN for missing."""

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING

from mcp_server.data.columns import ColumnFacts
from mcp_server.data.spec import Column
from mcp_server.data.table import matched
from mcp_server.data.text import label, listed
from mcp_server.errors import DataError

if TYPE_CHECKING:
    import numpy as np
    import pandas as pd

_MICROSECONDS_A_DAY = 86_400_000_000
_LEFT_OUT = {
    "empty": "Left out, because they are empty: {}.",
    "constant": "Left out, because they have one value only: {}.",
    "id": "Left out, because they only number or name the rows: {}.",
    "text": "Left out, because they are free text or have too many different values: {}.",
}


def chosen_columns(frame: "pd.DataFrame", facts: Sequence[ColumnFacts]) -> tuple[list[Column], list[str]]:
    """Those of the columns in `facts` that can be learned from, and notes on the others.

    Raises:
        DataError: If none is left.
    """
    notes = [
        sentence.format(listed(names))
        for kind, sentence in _LEFT_OUT.items()
        if (names := [fact.name for fact in facts if fact.kind == kind])
    ]
    columns = [column for fact in facts if (column := _column(frame[fact.name], fact))]
    if not columns:
        raise DataError(
            f"No column is left to learn from. {' '.join(notes)}".strip(), hint="Pass a table with other columns."
        )
    if texts := [column.name for column in columns if column.kind == "categorical"]:
        notes.append(f"Text columns are used as categories, which every estimator gets encoded: {listed(texts)}.")
    return columns, notes


def infinite_note(frame: "pd.DataFrame", names: Sequence[str]) -> list[str]:
    """A note on infinite values, which become missing ones, when there are any."""
    from pandas.api import types

    counts = {
        name: int(frame[name].isin([math.inf, -math.inf]).sum()) for name in names if types.is_float_dtype(frame[name])
    }
    infinite = [f"{label(name)} ({count:,})" for name, count in counts.items() if count]
    return [f"Infinite values count as missing: {listed(infinite)}."] if infinite else []


def _column(series: "pd.Series", fact: ColumnFacts) -> Column | None:
    if fact.kind == "number":
        return Column(name=fact.name, kind="numeric")
    if fact.kind == "date":
        return Column(name=fact.name, kind="datetime")
    if fact.kind == "category":
        return Column(name=fact.name, kind="categorical", categories=sorted(_texts(series).dropna().unique()))
    return None


def encoded(frame: "pd.DataFrame", columns: Sequence[Column]) -> "np.ndarray":
    """The matrix of `columns`; values that were not there when the columns were chosen count as missing.

    Raises:
        DataError: If a column is not in the table.
    """
    import numpy as np

    names = [str(name) for name in frame.columns]
    matrix = np.empty((len(frame), len(columns)), dtype=np.float64)
    for position, column in enumerate(columns):
        matrix[:, position] = _floats(frame[matched(column.name, names, "Feature")], column)
    matrix[np.isinf(matrix)] = np.nan
    return matrix


def _floats(series: "pd.Series", column: Column) -> "np.ndarray":
    import numpy as np
    import pandas as pd

    if column.kind == "numeric":
        return pd.to_numeric(series, errors="coerce").to_numpy(dtype=np.float64, na_value=np.nan)
    if column.kind == "datetime":
        times = pd.to_datetime(series, errors="coerce")
        days = times.to_numpy().astype("datetime64[us]").astype(np.int64) / _MICROSECONDS_A_DAY
        return np.where(times.isna(), np.nan, days)
    codes = {category: float(code) for code, category in enumerate(column.categories)}
    return _texts(series).map(codes).to_numpy(dtype=np.float64, na_value=np.nan)


def _texts(series: "pd.Series") -> "pd.Series":
    """Values as they are written: a whole number that became a float for want of a value loses its `.0` again."""
    from pandas.api import types

    if types.is_float_dtype(series) and bool((series.dropna() % 1 == 0).all()):
        series = series.astype("Int64")
    return series.astype("str")
