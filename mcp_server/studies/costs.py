"""Who spent what: the cost of every attempt, by team, user, study, tag or week."""

from collections import Counter
from datetime import UTC, datetime
from math import fsum
from typing import Any

from sqlalchemy import Connection, Row, select

from mcp_server.errors import InvalidRequestError
from mcp_server.store import Store
from mcp_server.store.schema import attempts, studies
from mcp_server.studies.summary import CostReport, Grouping, Table

NOBODY = "(none)"
OTHERS = "(others)"
_NANO = 1_000_000_000
_FREE = "Every attempt was free; set TUNING_USD_PER_CPU_HOUR to price the ones to come."


class CostReader:
    """Adds up costs from our own rows.

    Lost, pruned, failed and cancelled attempts count like the others, once they have ended. What a deleted study cost
    is deleted with it.
    """

    def __init__(self, store: Store) -> None:
        self._store = store

    def report(
        self, by: Grouping = "team", *, tag: str | None = None, month: str | None = None, limit: int = 50
    ) -> CostReport:
        """The cost of each group of attempts, with everything beyond the `limit` dearest groups as one more row.

        A cost is taken to a billionth of a dollar and added as a whole number, so that groups add up exactly to the
        total, in whatever way they are formed. Months and ISO weeks are those of UTC in which an attempt ended.

        Args:
            by: What makes a group. Studies without a team, or without the tag, are the group `(none)`.
            tag: The name of the tag, for `by="tag"` and only then.
            month: Only attempts that ended in this month, such as `2026-11`.
            limit: Groups to list.

        Raises:
            InvalidRequestError: If `tag` is missing where it is needed, or given where it means nothing.
        """
        if (by == "tag") != (tag is not None):
            problem = "by='tag' needs the name of a tag" if tag is None else f"tag means nothing with by={by!r}"
            raise InvalidRequestError(f"{problem}.", hint="For example by='tag', tag='project'.")
        spent: Counter[str] = Counter()
        tried: Counter[str] = Counter()
        for row in self._ended():
            if month is None or _utc(row.ended_at).strftime("%Y-%m") == month:
                group = _group(row, by, tag)
                spent[group] += round(row.cost_usd * _NANO)
                tried[group] += 1
        total = spent.total()
        return CostReport(
            by=by,
            tag=tag,
            month=month,
            total_usd=total / _NANO,
            groups=_table(by, spent, tried, limit),
            note=_FREE if tried and not total else None,
        )

    def _ended(self) -> list[Row[Any]]:
        owners = (studies.c.team, studies.c.owner, studies.c.name, studies.c.tags)
        with self._store.read() as connection:
            return list(
                connection.execute(
                    select(*owners, attempts.c.cost_usd, attempts.c.ended_at)
                    .join(attempts, attempts.c.study_id == studies.c.id)
                    .where(attempts.c.ended_at.is_not(None))
                )
            )


def cost_of(connection: Connection, study_id: str, number: int | None = None) -> float:
    """US dollars that all attempts of a study, or of one trial, have cost so far."""
    mine = select(attempts.c.cost_usd).where(attempts.c.study_id == study_id)
    return fsum(connection.scalars(mine if number is None else mine.where(attempts.c.number == number)))


def _group(row: Row[Any], by: Grouping, tag: str | None) -> str:
    match by:
        case "team":
            return row.team or NOBODY
        case "user":
            return str(row.owner)
        case "study":
            return str(row.name)
        case "tag":
            return (row.tags or {}).get(tag) or NOBODY
        case "week":
            year, week, _ = _utc(row.ended_at).isocalendar()
            return f"{year}-W{week:02d}"


def _table(by: Grouping, spent: Counter[str], tried: Counter[str], limit: int) -> Table:
    dearest = sorted(spent, key=lambda group: (-spent[group], group))
    rows = [(group, tried[group], spent[group]) for group in dearest[:limit]]
    if rest := dearest[limit:]:
        rows.append((OTHERS, sum(tried[group] for group in rest), sum(spent[group] for group in rest)))
    return Table(columns=[by, "attempts", "usd"], rows=[[group, count, cost / _NANO] for group, count, cost in rows])


def _utc(seconds: float) -> datetime:
    return datetime.fromtimestamp(seconds, UTC)
