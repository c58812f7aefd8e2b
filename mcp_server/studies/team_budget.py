"""What is left of a team's budget this month, as a runner asks for it before every trial."""

import time
from collections.abc import Callable
from datetime import UTC, datetime

ASK_EVERY_S = 1.0


class TeamBudget:
    """The rest of a monthly budget that all studies of a team share.

    Asking the database before each of many short trials would cost more than it is worth, so the answer is a moment
    old; what this study has spent since is taken off it at once.

    Args:
        monthly_usd: What the team may spend in a calendar month (UTC); None without a limit.
        spent: US dollars that the team has spent this month, without trials of this study that run.
    """

    def __init__(self, monthly_usd: float | None, spent: Callable[[], float]) -> None:
        self._monthly_usd = monthly_usd
        self._spent = spent
        self._asked = -ASK_EVERY_S
        self._left = 0.0
        self._own = 0.0

    def left(self, own_usd: float) -> float | None:
        """What is left, when this study has spent `own_usd` so far; None without a limit."""
        if self._monthly_usd is None:
            return None
        if time.monotonic() - self._asked >= ASK_EVERY_S:
            self._left = self._monthly_usd - self._spent()
            self._asked, self._own = time.monotonic(), own_usd
        return self._left - (own_usd - self._own)


def month_start(at: float) -> float:
    """The first moment of the month in UTC.

    >>> month_start(1_790_000_000.0)
    1788220800.0
    """
    return datetime.fromtimestamp(at, UTC).replace(day=1, hour=0, minute=0, second=0, microsecond=0).timestamp()
