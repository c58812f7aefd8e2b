"""CSV and its relatives: surveyed as bytes first, then checked row by row, then parsed."""

import codecs
import csv
import itertools
from contextlib import suppress
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from mcp_server.data.formats import check_text, is_binary
from mcp_server.data.limits import Limits, check_size
from mcp_server.data.streams import TextSource
from mcp_server.data.text import counted, label, listed
from mcp_server.errors import DataError

if TYPE_CHECKING:
    import pandas as pd

_HEAD = 64 * 1024
_SNIFFED_ROWS = 50
_SEPARATORS = {",": "comma", ";": "semicolon", "\t": "tab", "|": "pipe"}
_END = "\ue000end of file"
_BYTE_ORDER_MARKS = (
    (codecs.BOM_UTF32_LE, "utf-32"),
    (codecs.BOM_UTF32_BE, "utf-32"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
)


@dataclass(frozen=True)
class Dialect:
    """How the text of one file becomes rows."""

    separator: str
    names: list[str]
    notes: list[str] = field(default_factory=list)


def read_delimited(source: TextSource, limits: Limits, separator: str | None) -> tuple["pd.DataFrame", list[str]]:
    """The rows as pandas reads them, and notes on what was decided.

    Raises:
        DataError: If this is not a table of one width within the limits; the text names the line.
    """
    line_ends = _survey(source, limits)
    dialect = _dialect(source, separator, limits)
    check_size(source.name, line_ends, len(dialect.names), limits)
    _check_rows(source, dialect)
    return _parsed(source, dialect), dialect.notes


def _survey(source: TextSource, limits: Limits) -> int:
    """The number of line ends, after everything was looked at that can be seen without parsing."""
    line_ends, old_line_ends, carried, is_empty = 0, 0, 0, True
    for chunk in source.chunks():
        if is_empty:
            _check_head(chunk[:_HEAD], source.name)
        if b"\0" in chunk:
            raise _nul(source.name, line_ends + chunk[: chunk.index(b"\0")].count(b"\n") + 1)
        carried = _carried(chunk, carried, limits.row_bytes, source.name, line_ends + 1)
        line_ends += chunk.count(b"\n")
        old_line_ends += chunk.count(b"\r")
        is_empty = is_empty and not chunk.strip(b" \t\r\n\xef\xbb\xbf")
    if is_empty:
        raise DataError(f"{label(source.name)} is empty.", hint="Pass a table with a header and rows.")
    if old_line_ends and not line_ends:
        source.use_old_line_ends()
    return line_ends or old_line_ends


def _check_head(head: bytes, name: str) -> None:
    check_text(head, name)
    mark = next((encoding for mark, encoding in _BYTE_ORDER_MARKS if head.startswith(mark)), None)
    if encoding := mark or _unmarked_utf16(head):
        raise DataError(f"{label(name)} is {encoding.upper()} text.", hint=f'Pass encoding="{encoding}".')
    if is_binary(head):
        raise DataError(f"{label(name)} is not a table: it holds binary data.", hint="Pass CSV or Parquet.")


def _unmarked_utf16(head: bytes) -> str | None:
    """ASCII in UTF-16 has a NUL in every second byte."""
    half = max(len(head) // 2, 1)
    even, odd = head[::2].count(0) / half, head[1::2].count(0) / half
    most, few = 0.6, 0.05
    if odd > most and even < few:
        return "utf-16-le"
    return "utf-16-be" if even > most and odd < few else None


def _nul(name: str, line: int) -> DataError:
    return DataError(
        f"Line {line:,} of {label(name)} holds a NUL byte.",
        hint="Export the table again as text, or pass `encoding` if it is UTF-16.",
    )


def _carried(chunk: bytes, carried: int, limit: int, name: str, line: int) -> int:
    """The length of the line that is still open after `chunk`.

    Raises:
        DataError: If a line is longer than `limit` bytes.
    """
    chunk = chunk.replace(b"\r", b"\n")
    position = 0
    while len(chunk) - position + carried > limit:
        end = chunk.rfind(b"\n", position, position + limit - carried + 1)
        if end < 0:
            line += chunk[:position].count(b"\n")
            raise DataError(
                f"Line {line:,} of {label(name)} is longer than {limit:,} bytes.",
                hint="Pass a table with one record a line.",
            )
        position, carried = end + 1, 0
    last = chunk.rfind(b"\n", position)
    return carried + len(chunk) - position if last < 0 else len(chunk) - last - 1


def _dialect(source: TextSource, separator: str | None, limits: Limits) -> Dialect:
    try:
        lines = list(itertools.islice(source.lines(), _SNIFFED_ROWS))
    except UnicodeDecodeError:
        raise _undecodable(source) from None
    notes: list[str] = []
    if separator is None:
        separator = max(_SEPARATORS, key=lambda candidate: _fit(lines, candidate))
        if separator not in {",", "\t"}:
            notes.append(f"Values are separated by {_SEPARATORS[separator]}s.")
    names = _widths(lines, separator)[1]
    if len(names) == 1:
        notes.append("1 column found: wrong separator? Pass `separator` if there should be more.")
    return Dialect(separator, _checked_names(names, source.name, limits, notes), notes)


def _widths(lines: list[str], separator: str) -> tuple[list[int], list[str]]:
    rows: list[list[str]] = []
    with suppress(csv.Error):  # one cell beyond the cap of csv: the row check that follows names its line
        rows.extend(row for row in csv.reader(lines, delimiter=separator) if row)
    return [len(row) for row in rows], rows[0] if rows else [""]


def _fit(lines: list[str], separator: str) -> tuple[bool, float, int]:
    """Better separators give more than one column, rows of one width, and more columns, in this order."""
    widths, names = _widths(lines, separator)
    agreeing = sum(width == len(names) for width in widths) / max(len(widths), 1)
    return len(names) > 1, agreeing, len(names)


def _checked_names(names: list[str], file: str, limits: Limits, notes: list[str]) -> list[str]:
    if len(names) > limits.columns:
        raise DataError(
            f"{label(file)} has {len(names):,} columns; the limit is {limits.columns:,}.",
            hint="Keep the columns that matter.",
        )
    named = [name.strip() or f"column_{number}" for number, name in enumerate(names, 1)]
    if blank := [new for old, new in zip(names, named, strict=True) if not old.strip()]:
        notes.append(f"Columns without a name are called {listed(blank)}.")
    check_distinct(named, file)
    if len(named) > 1 and all(_is_number(name) for name in named):
        notes.append("The first line holds only numbers: is the header missing?")
    return named


def check_distinct(names: list[str], file: str) -> None:
    """Nothing, when no column name occurs twice.

    Raises:
        DataError: If one does; pandas would rename it in silence.
    """
    seen: set[str] = set()
    if twice := [name for name in names if name in seen or seen.add(name)]:  # type: ignore[func-returns-value]
        raise DataError(
            f"{label(file)} has {counted(len(twice), 'column name')} more than once: {listed(twice)}.",
            hint="Rename or remove the copies.",
        )


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True


def _check_rows(source: TextSource, dialect: Dialect) -> None:
    """Rows that are too short, or an open quote, would reach pandas as missing values and as one huge cell.

    A last line of our own tells whether a quote is still open there: it then comes back inside a cell.
    """
    reader = csv.reader(itertools.chain(source.lines(), [_END]), delimiter=dialect.separator)
    width, start, following, row = len(dialect.names), 1, 1, [""]
    try:
        for row in reader:
            start, following = following, reader.line_num + 1
            if len(row) != width and row:
                break
    except csv.Error:
        raise _unclosed(source.name, following) from None
    except UnicodeDecodeError:
        raise _undecodable(source) from None
    if row == [_END]:
        return
    if row and _END in row[-1]:
        raise _unclosed(source.name, start)
    raise DataError(
        f"Line {start:,} of {label(source.name)} has {counted(len(row), 'value')}, the header has {width:,}.",
        hint=f"Correct the line, or pass `separator` if {_SEPARATORS.get(dialect.separator, 'this one')} is wrong.",
    )


def _unclosed(name: str, line: int) -> DataError:
    return DataError(
        f"Line {line:,} of {label(name)} opens a quote that is never closed (or has a cell above 128 kB).",
        hint='Close the quote, or write a quote inside a cell as "".',
    )


def _undecodable(source: TextSource) -> DataError:
    """The error with its line, which buffered decoding does not know."""
    for number, line in enumerate(source.stream(), 1):
        try:
            line.decode("utf-8")
        except UnicodeDecodeError as exc:
            return DataError(
                f"Line {number:,} of {label(source.name)} is not UTF-8 text (byte 0x{line[exc.start]:02x}).",
                hint='Pass encoding="cp1252" or "latin-1" for Western European text, or the encoding it has.',
            )
    return DataError(f"{label(source.name)} changed while it was read.", hint="Try again.")


def _parsed(source: TextSource, dialect: Dialect) -> "pd.DataFrame":
    import pandas as pd

    try:
        return pd.read_csv(
            source.stream(),
            sep=dialect.separator,
            names=dialect.names,
            header=0,
            index_col=False,
            encoding="utf-8-sig",
            low_memory=False,
        )
    except pd.errors.ParserError as exc:
        raise DataError(f"{label(source.name)} is not a table: {label(exc, 200)}.", hint="Check its quotes.") from exc
