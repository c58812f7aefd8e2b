"""Text columns that are really numbers or dates, and the values that stand for nothing."""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import TYPE_CHECKING

from mcp_server.data.text import label, listed
from mcp_server.errors import DataError

if TYPE_CHECKING:
    from collections.abc import Sequence

    import pandas as pd

_NUMBER = re.compile(r"[+-]?(\d{1,17}(\.\d*)?|\.\d+)(e[+-]?\d{1,3})?", re.ASCII | re.IGNORECASE)
_COMMA_NUMBER = re.compile(r"[+-]?\d{1,17}(,\d+)?", re.ASCII)
_LONG_NUMBER = re.compile(r"[+-]?\d{18,}(\.\d*)?", re.ASCII)
_FOREIGN_NUMBER = re.compile(r"[+-]?\d+")
_MISSING = frozenset({"", "?"})
_DATES: "Sequence[tuple[re.Pattern[str], tuple[str, ...]]]" = (
    (re.compile(r"\d{4}-\d\d-\d\d([T ]\d\d:\d\d.*)?", re.ASCII), ("ISO8601",)),
    (re.compile(r"\d{4}/\d{1,2}/\d{1,2}", re.ASCII), ("%Y/%m/%d",)),
    (re.compile(r"\d{1,2}\.\d{1,2}\.\d{4}", re.ASCII), ("%d.%m.%Y",)),
    (re.compile(r"\d{1,2}/\d{1,2}/\d{4}", re.ASCII), ("%m/%d/%Y", "%d/%m/%Y")),
)
_MOSTLY = 0.8


@dataclass
class _Notes:
    """Column names by what was decided about them, so that a wide table gives one sentence for each decision."""

    blank: dict[str, int] = field(default_factory=dict)
    comma: list[str] = field(default_factory=list)
    ambiguous_date: list[str] = field(default_factory=list)
    long: list[str] = field(default_factory=list)
    foreign: list[str] = field(default_factory=list)
    mixed: list[str] = field(default_factory=list)
    date_formats: dict[str, str] = field(default_factory=dict)

    def sentences(self) -> list[str]:
        """One sentence for each decision that was made at least once."""
        pairs = (
            (self.comma, "Decimal commas were read as decimals in {}."),
            (self.ambiguous_date, "Dates were read as month/day/year in {}; day/month/year would fit as well."),
            (self.long, "Kept as text, because some numbers have more than 17 digits: {}."),
            (self.foreign, "Kept as text, because the digits are not ASCII: {}."),
            (self.mixed, "Kept as text, because some values are not numbers: {}."),
        )
        sentences = [sentence.format(listed(names)) for names, sentence in pairs if names]
        if self.blank:
            blank = listed(f"{label(name)} ({count:,})" for name, count in self.blank.items())
            sentences.insert(0, f"Blank values and '?' count as missing: {blank}.")
        return sentences


def typed(
    frame: "pd.DataFrame", *, decimal_comma: bool = False, date_formats: Mapping[str, str] = MappingProxyType({})
) -> tuple["pd.DataFrame", list[str], dict[str, str]]:
    """The same table with every column numeric, boolean, datetime or text.

    Beside it, notes on what that changed, and the formats of dates that could have had another one; where those in
    `date_formats` fit as well, they are used.

    Raises:
        DataError: If one of `date_formats` does not fit.
    """
    import pandas as pd

    notes = _Notes(date_formats={**date_formats})
    columns = {str(name): _typed(frame[name], notes, decimal_comma=decimal_comma) for name in frame.columns}
    return pd.DataFrame(columns, index=pd.RangeIndex(len(frame))), notes.sentences(), notes.date_formats


def _typed(series: "pd.Series", notes: _Notes, *, decimal_comma: bool) -> "pd.Series":
    import pandas as pd
    from pandas.api import types

    series = series.reset_index(drop=True)
    if isinstance(series.dtype, pd.DatetimeTZDtype):
        return series.dt.tz_convert("UTC").dt.tz_localize(None)
    if types.is_bool_dtype(series) or types.is_numeric_dtype(series) or types.is_datetime64_any_dtype(series):
        return series
    return _from_text(series.astype("str").str.strip(), notes, decimal_comma=decimal_comma)


def _from_text(text: "pd.Series", notes: _Notes, *, decimal_comma: bool) -> "pd.Series":
    import pandas as pd

    name = str(text.name)
    if blank := int((missing := text.isin(_MISSING)).sum()):
        notes.blank[name] = blank
        text = text.mask(missing)
    values = [str(value) for value in text.dropna().unique()]
    if not values:
        return pd.Series(float("nan"), index=text.index, name=text.name)
    if _all(_NUMBER, values):
        return pd.to_numeric(text)
    if decimal_comma and _all(_COMMA_NUMBER, values):
        notes.comma.append(name)
        return pd.to_numeric(text.str.replace(",", "."))
    dates = _dates(text, values, notes)
    if dates is None:
        _explain(name, values, notes)
        return text
    return dates


def _all(pattern: re.Pattern[str], values: list[str]) -> bool:
    return all(pattern.fullmatch(value) for value in values)


def _dates(text: "pd.Series", values: list[str], notes: _Notes) -> "pd.Series | None":
    import pandas as pd

    formats = next((formats for pattern, formats in _DATES if _all(pattern, values)), ())
    fitting = [
        one for one in formats if pd.to_datetime(pd.Index(values), format=one, errors="coerce", utc=True).notna().all()
    ]
    if not fitting:
        return None
    name = str(text.name)
    known = notes.date_formats.get(name)
    if len(fitting) > 1 and known is None:
        notes.ambiguous_date.append(name)
    if known is not None and known not in fitting:
        raise DataError(
            f"Dates in column {label(name)!r} are not written as in the other table, where {known} fits.",
            hint="Write dates as YYYY-MM-DD.",
        )
    chosen = known or fitting[0]
    if len(formats) > 1:
        notes.date_formats[name] = chosen
    return pd.to_datetime(text, format=chosen, utc=True).dt.tz_localize(None)


def _explain(name: str, values: list[str], notes: _Notes) -> None:
    """Say why a column that looks like numbers stays text."""
    if any(_LONG_NUMBER.fullmatch(value) for value in values):
        notes.long.append(name)
    elif any(not value.isascii() and _FOREIGN_NUMBER.fullmatch(value) for value in values):
        notes.foreign.append(name)
    else:
        others = [value for value in values if not _NUMBER.fullmatch(value)]
        if len(others) <= (1 - _MOSTLY) * len(values):
            notes.mixed.append(f"{label(name, 40)} (e.g. {label(others[0], 16)})")
