"""From the name of a data set to its table."""

import hashlib

from mcp_server.data.bundled import PREFIX, read_bundled
from mcp_server.data.delimited import read_delimited
from mcp_server.data.formats import format_of
from mcp_server.data.gate import DataGate, OpenedFile
from mcp_server.data.limits import Limits
from mcp_server.data.parquet import read_parquet
from mcp_server.data.spec import Encoding, Separator
from mcp_server.data.streams import TextSource
from mcp_server.data.table import Table
from mcp_server.data.text import label
from mcp_server.data.values import typed
from mcp_server.errors import DataError

DEFAULT_LIMITS = Limits()
_CHARACTERS: dict[Separator, str] = {"comma": ",", "semicolon": ";", "tab": "\t", "pipe": "|"}


def read_table(
    source: str,
    gate: DataGate,
    *,
    encoding: Encoding | None = None,
    separator: Separator | None = None,
    limits: Limits = DEFAULT_LIMITS,
    like: Table | None = None,
) -> Table:
    """The table behind a path in a data folder, or behind `sklearn:<name>`.

    Args:
        source: Path or name.
        gate: Opens the file.
        encoding: Of the text, when it is not UTF-8.
        separator: Between values; found out when omitted.
        limits: How large a table may be.
        like: A table whose columns these are: dates that fit several formats are read as there.

    Raises:
        DataError: If it is not a table, too large, or not to be read; the text names the place.
        DatasetNotFoundError: If there is no such file or name.
    """
    if source.startswith(PREFIX):
        return read_bundled(source)
    with gate.open(source) as opened:
        return read_opened(opened, source, encoding=encoding, separator=separator, limits=limits, like=like)


def read_opened(
    opened: OpenedFile,
    source: str,
    *,
    encoding: Encoding | None,
    separator: Separator | None,
    limits: Limits,
    like: Table | None = None,
) -> Table:
    """The table in a file that the gate opened.

    Raises:
        DataError: As `read_table`.
    """
    name = opened.path.name
    kind, gzipped = format_of(name)
    if not opened.size:
        raise DataError(f"{label(name)} is empty (0 bytes).", hint="Pass a table with a header and rows.")
    if opened.size > limits.text_bytes:
        raise DataError(
            f"{label(name)} has {opened.size:,} bytes; the limit is {limits.text_bytes:,}.", hint="Pass a sample."
        )
    digest = hashlib.file_digest(opened.handle, "sha256").hexdigest()
    if kind == "parquet":
        frame, notes = read_parquet(opened, limits)
    else:
        text = TextSource(opened, gzipped=gzipped, encoding=encoding, limits=limits)
        frame, notes = read_delimited(text, limits, _CHARACTERS[separator] if separator else None)
    opened.check_unchanged()
    if frame.empty:
        raise DataError(f"{label(name)} has 0 rows: only a header.", hint="Pass a table with rows.")
    known = like.date_formats if like else {}
    frame, more, formats = typed(frame, decimal_comma=kind == "delimited", date_formats=known)
    return Table(frame=frame, source=source, digest=digest, notes=notes + more, date_formats=formats)
