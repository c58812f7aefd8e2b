"""How much of a file is read before it is refused."""

from dataclasses import dataclass

from mcp_server.data.text import label
from mcp_server.errors import DataError

_MIB = 1024 * 1024
_CELL_BYTES = 8


@dataclass(frozen=True, slots=True)
class Limits:
    """Caps on what a table may take; a file beyond one is refused before it is loaded.

    A compressed file may expand to `expansion` times its size, or to `expansion_floor` bytes when that is more.
    """

    table_bytes: int = 1024 * _MIB
    text_bytes: int = 1024 * _MIB
    row_bytes: int = _MIB
    columns: int = 10_000
    expansion: int = 100
    expansion_floor: int = 64 * _MIB


def check_size(name: str, rows: int, columns: int, limits: Limits) -> None:
    """Nothing, when a table of this size may be loaded.

    Raises:
        DataError: If it has too many columns or would take too much memory.
    """
    if columns > limits.columns:
        raise DataError(
            f"{label(name)} has {columns:,} columns; the limit is {limits.columns:,}.",
            hint="Keep the columns that matter.",
        )
    if rows * columns * _CELL_BYTES > limits.table_bytes:
        raise DataError(
            f"{label(name)} has {rows:,} rows x {columns:,} columns, about {rows * columns * _CELL_BYTES / 1e9:,.1f} GB"
            f" in memory; the limit is {limits.table_bytes / 1e9:,.1f} GB.",
            hint="Pass a sample of the rows, or fewer columns.",
        )
