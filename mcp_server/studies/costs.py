"""Who spent what: the cost of every attempt, by team, user, study, tag or week."""

import re
import time
from collections import Counter
from datetime import UTC, datetime
from itertools import accumulate
from math import fsum
from typing import Any

from sqlalchemy import Connection, Row, select

from mcp_server.errors import InvalidRequestError
from mcp_server.settings import Settings
from mcp_server.store import Store
from mcp_server.store.schema import attempts, studies
from mcp_server.studies.prices import Prices
from mcp_server.studies.summary import CostReport, Grouping, Table
from mcp_server.studies.team_budget import month_start
from mcp_server.types import WAITS_FOR_APPROVAL, Scalar, shown

NOBODY = "(none)"
OTHERS = "(others)"
_NANO = 1_000_000_000  # sums of floats depend on their order, whole billionths of a dollar do not
_DAY_S = 86_400.0
_FREE = "Every attempt was free; set TUNING_USD_PER_CPU_HOUR or write costs.yaml to price the ones to come."


class CostReader:
    """Adds up costs from our own rows.

    Lost, pruned, failed and cancelled attempts count like the others, once they have ended. What a deleted study cost
    is deleted with it.
    """

    def __init__(self, store: Store, settings: Settings) -> None:
        self._store = store
        self._settings = settings

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
            InvalidRequestError: If `tag` is missing where it is needed, or given where it means nothing, or `month` is
                none.
        """
        if (by == "tag") != (tag is not None):
            problem = "by='tag' needs the name of a tag" if tag is None else f"tag means nothing with by={by!r}"
            raise InvalidRequestError(f"{problem}.", hint="For example by='tag', tag='project'.")
        if month is not None and not re.fullmatch(r"\d{4}-(0[1-9]|1[0-2])", month):
            raise InvalidRequestError(f"{shown(month)!r} is not a month.", hint="For example 2026-11.")
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
            budgets=self._budgets(),
            waiting=self._waiting(),
            note=_FREE if tried and not total else None,
        )

    def _budgets(self) -> Table | None:
        """Each team's month: what it may spend, has spent, has left, and will have spent at this pace."""
        prices, now = Prices.load(self._settings), time.time()
        limits = {team: usd for team in prices.teams if (usd := prices.monthly_usd(team)) is not None}
        if not limits:
            return None
        since = month_start(now)
        passed = (now - since) / (month_start(since + 32 * _DAY_S) - since)
        rows: list[list[Scalar]] = []
        with self._store.read() as connection:
            for team, usd in sorted(limits.items()):
                spent = spent_this_month(connection, team)
                rows.append([team, usd, round(spent, 6), round(usd - spent, 6), round(spent / passed, 2)])
        return Table(columns=["team", "monthly_usd", "spent_usd", "left_usd", "forecast_usd"], rows=rows)

    def _waiting(self) -> Table | None:
        """The studies that wait for an approval, the longest first."""
        with self._store.read() as connection:
            rows = connection.execute(
                select(studies).where(studies.c.state == WAITS_FOR_APPROVAL).order_by(studies.c.created_at)
            ).all()
            found: list[list[Scalar]] = [
                [r.name, r.owner, r.team, (r.approval or {}).get("expected_usd"), cost_of(connection, r.id)]
                for r in rows
            ]
        columns = ["study_name", "user", "team", "expected_usd", "spent_usd"]
        return Table(columns=columns, rows=found) if found else None

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


def beyond(connection: Connection, study_id: str, usd: float) -> set[int]:
    """The trials that ended when the study had cost more than so many US dollars."""
    ends = connection.execute(
        select(attempts.c.number, attempts.c.cost_usd)
        .where(attempts.c.study_id == study_id)
        .order_by(attempts.c.ended_at)
    ).all()
    totals = accumulate(round(end.cost_usd * _NANO) for end in ends)
    return {end.number for end, total in zip(ends, totals, strict=True) if total > round(usd * _NANO)}


def spent_this_month(connection: Connection, team: str | None, *, without: str | None = None) -> float:
    """US dollars of a team's attempts that ended this month (UTC) or still run, but for running ones of one study."""
    since = month_start(time.time())
    running = attempts.c.ended_at.is_(None) & (studies.c.id != (without or ""))
    return fsum(
        connection.scalars(
            select(attempts.c.cost_usd)
            .join(studies, attempts.c.study_id == studies.c.id)
            .where(studies.c.team == team, running | (attempts.c.ended_at >= since))
        )
    )


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
