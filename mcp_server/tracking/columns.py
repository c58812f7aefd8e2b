"""The columns of a table of runs: what callers may name, and how a run fills them."""

import math
import re
from collections import Counter
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Literal, NamedTuple

from mcp_server.errors import InvalidRequestError
from mcp_server.tracking.projection import STEP_METRIC
from mcp_server.types import Scalar, shown

if TYPE_CHECKING:
    from mlflow.entities import Run

Kind = Literal["attributes", "metrics", "params", "tags"]

ATTRIBUTES = ("run_id", "run_name", "status", "start_time", "end_time", "experiment_id")
DEFAULT_ATTRIBUTES = ATTRIBUTES[:4]
CELL_LIMIT = 200
LISTED = 30

_PREFIXES: Mapping[str, Kind] = {
    **dict.fromkeys(("attributes", "attribute", "attr"), "attributes"),
    **dict.fromkeys(("metrics", "metric"), "metrics"),
    **dict.fromkeys(("params", "param", "parameters"), "params"),
    **dict.fromkeys(("tags", "tag"), "tags"),
}
_ORDER = re.compile(r"(?P<column>.+?)(?:\s+(?P<direction>asc|desc))?", re.IGNORECASE | re.DOTALL)
_CLAMPED = 1.797e308  # what SQL stores keep of an infinity
_DERIVED = re.compile(rf"final_metric|{STEP_METRIC}|cost_usd|.+_(fold|epoch|step)")


class Column(NamedTuple):
    """One column; its `label` is what a caller can ask for again."""

    kind: Kind
    key: str

    @property
    def label(self) -> str:
        """The name in a table's header."""
        return self.key if self.kind == "attributes" else f"{self.kind}.{self.key}"

    @property
    def field(self) -> str:
        """The name in MLflow's filter and order clauses."""
        return f"attributes.{self.key}" if self.kind == "attributes" else f"{self.kind}.`{self.key}`"


class KnownKeys(NamedTuple):
    """The metrics, params and tags that some runs have."""

    metrics: Counter[str]
    params: Counter[str]
    tags: Counter[str]

    @classmethod
    def of(cls, runs: "Iterable[Run]") -> "KnownKeys":
        """The keys that `runs` have, with the number of runs that have each."""
        known = cls(Counter(), Counter(), Counter())
        for run in runs:
            known.metrics.update(run.data.metrics.keys())
            known.params.update(run.data.params.keys())
            known.tags.update(key for key in run.data.tags if not key.startswith("mlflow."))
        return known

    def has(self, column: Column) -> bool:
        """Whether some run has a value in this column."""
        return column.kind == "attributes" or column.key in getattr(self, column.kind)


def column_of(text: str, known: KnownKeys) -> Column:
    """The column that a caller names, with or without its prefix.

    Raises:
        InvalidRequestError: If it has no prefix and no run has such a metric, param or tag.
    """
    name = text.strip()
    prefix, dot, key = name.partition(".")
    if dot and prefix.lower() in _PREFIXES:
        return _checked(Column(_PREFIXES[prefix.lower()], key.strip("`\"' ")), text)
    if name in ATTRIBUTES:
        return Column("attributes", name)
    kinds: tuple[Kind, ...] = ("metrics", "params", "tags")
    for kind in kinds:
        if name in getattr(known, kind):
            return _checked(Column(kind, name), text)
    raise unknown_column(text, known)


def order_of(text: str, known: KnownKeys) -> tuple[Column, str]:
    """The column and direction of one sort term.

    Raises:
        InvalidRequestError: If it is not `column`, `column ASC` or `column DESC`.
    """
    found = _ORDER.fullmatch(text.strip())
    if found is None:
        raise InvalidRequestError("A sort term is empty.", hint="Write e.g. metrics.accuracy DESC.")
    return column_of(found["column"], known), (found["direction"] or "asc").upper()


def unknown_column(text: str, known: KnownKeys) -> InvalidRequestError:
    """The error for a column that no run has: it lists those that there are."""
    return InvalidRequestError(
        f"No run has a column {shown(text)!r}.",
        hint=f"Known metrics: {_listed(known.metrics)}. Known params: {_listed(known.params)}. "
        f"Always there: {', '.join(ATTRIBUTES)}.",
    )


def default_columns(runs: "list[Run]") -> list[Column]:
    """Identity and state of a run, its main metrics and the params that most of these runs have."""
    known = KnownKeys.of(runs)
    objective = [run.data.tags["mcp.metric"] for run in runs[:1] if "mcp.metric" in run.data.tags]
    others = [key for key in _by_frequency(known.metrics) if not _DERIVED.fullmatch(key) and key not in objective]
    return [
        *(Column("attributes", key) for key in DEFAULT_ATTRIBUTES),
        *(Column("metrics", key) for key in (objective + others)[:4]),
        *(Column("params", key) for key in _by_frequency(known.params)[:8]),
    ]


def cell(run: "Run", column: Column) -> Scalar:
    """What `run` has in `column`; None when it has nothing there."""
    if column.kind == "metrics":
        return number(run.data.metrics.get(column.key))
    if column.kind != "attributes":
        text = (run.data.params if column.kind == "params" else run.data.tags).get(column.key)
        return None if text is None else shown(text, CELL_LIMIT)
    if column.key == "end_time" and run.info.status == "RUNNING":
        return None  # of a study that goes on after an end
    value: Scalar = getattr(run.info, column.key)
    return timestamp(value) if column.key.endswith("_time") else value


def number(value: float | None) -> Scalar:
    """`value` as JSON can carry it: what is not finite becomes text.

    >>> number(float("nan")), number(1.7976931348623157e308), number(0.5)
    ('nan', 'inf', 0.5)
    """
    if value is None:
        return None
    if math.isnan(value):
        return "nan"
    if abs(value) >= _CLAMPED:
        return "inf" if value > 0 else "-inf"
    return value


def timestamp(milliseconds: Scalar) -> str | None:
    """A time in ISO 8601, UTC.

    >>> timestamp(0)
    '1970-01-01T00:00:00+00:00'
    """
    if not isinstance(milliseconds, int):
        return None
    return datetime.fromtimestamp(milliseconds / 1_000, UTC).isoformat(timespec="seconds")


def _checked(column: Column, text: str) -> Column:
    if not column.key or "`" in column.key:
        raise InvalidRequestError(f"{shown(text)!r} does not name a column.", hint="Write e.g. metrics.accuracy.")
    return column


def _by_frequency(keys: Counter[str]) -> list[str]:
    return sorted(keys, key=lambda key: (-keys[key], key))


def _listed(keys: Counter[str]) -> str:
    names = _by_frequency(keys)
    return ", ".join(names[:LISTED]) + (", ..." if len(names) > LISTED else "") if names else "none"
