"""A table in memory, and where it came from."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from mcp_server.data.text import counted, label, suggestion
from mcp_server.errors import DataError

if TYPE_CHECKING:
    import pandas as pd


@dataclass(frozen=True)
class Table:
    """Rows and columns with the SHA-256 of the bytes they came from.

    Columns of `frame` are numeric, boolean, datetime (UTC, without a zone) or text; `notes` say what reading decided.
    `date_formats` are those of columns where another format could fit the dates of another table.
    """

    frame: "pd.DataFrame"
    source: str
    digest: str
    notes: list[str] = field(default_factory=list)
    target: str | None = None
    date_formats: dict[str, str] = field(default_factory=dict)

    @property
    def n_rows(self) -> int:
        """Rows without the header."""
        return len(self.frame)

    @property
    def columns(self) -> list[str]:
        """Names, as they stand in the file."""
        return list(self.frame.columns)

    def column(self, wanted: str, role: str) -> str:
        """The name in the file of the column that `wanted` names, exactly or as it is shown.

        Raises:
            DataError: If there is none, with the nearest names.
        """
        return matched(wanted, self.columns, role)


def matched(wanted: str, names: Sequence[str], role: str) -> str:
    """The one of `names` that `wanted` means, exactly or as it is shown.

    Raises:
        DataError: If there is none, with the nearest names.
    """
    if wanted in names:
        return wanted
    alike = [name for name in names if label(name) == label(wanted)]
    if len(alike) == 1:
        return alike[0]
    raise DataError(
        f"{role} column {label(wanted)!r} is not in the table ({counted(len(names), 'column')}).",
        hint=suggestion(wanted, names, "column"),
    )
