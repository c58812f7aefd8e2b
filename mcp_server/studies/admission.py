"""Whether a new study may start, as far as money goes: what its team has left, and what needs an approval."""

from mcp_server.data.spec import PreparedData
from mcp_server.errors import BudgetExceededError
from mcp_server.settings import Settings
from mcp_server.store import Store
from mcp_server.studies.costs import spent_this_month
from mcp_server.studies.decision import Approval
from mcp_server.studies.planning import Planner
from mcp_server.studies.prices import Prices
from mcp_server.studies.spec import StudyDefinition
from mcp_server.types import WAITS_FOR_APPROVAL, JsonObject


class Admission:
    """Judges studies before they are created. Safe to share between threads."""

    def __init__(self, store: Store, settings: Settings, planner: Planner) -> None:
        self._store = store
        self._settings = settings
        self._planner = planner

    def columns(self, definition: StudyDefinition, data: PreparedData | None) -> JsonObject:
        """What the row of the new study says about money: its state, and what it may cost without being asked for.

        Raises:
            BudgetExceededError: If the team has nothing left this month.
            InvalidRequestError: If the file of prices cannot be read.
        """
        prices = Prices.load(self._settings)
        self._require_budget(prices)
        free = prices.free_of_approval_usd(self._settings.team)
        if free is None:
            return {"state": "queued"}
        expected = self._expected(definition, data, free)
        if expected is not None and expected <= free:
            return {"state": "queued", "approved_usd": free}
        asked = Approval(expected_usd=expected, free_usd=free).model_dump()
        return {"state": WAITS_FOR_APPROVAL, "approved_usd": 0.0, "approval": asked}

    def _require_budget(self, prices: Prices) -> None:
        team = self._settings.team
        monthly = prices.monthly_usd(team)
        if monthly is None:
            return
        with self._store.read() as connection:
            spent = spent_this_month(connection, team)
        if spent >= monthly:
            raise BudgetExceededError(
                f"Team {team} has spent ${spent:.2f} of the ${monthly:.2f} it has this month.",
                hint="Start it next month, or ask an admin to raise monthly_usd in costs.yaml.",
            )

    def _expected(self, definition: StudyDefinition, data: PreparedData | None, free: float) -> float | None:
        """What the study is likely to cost; its own budget where that is less, or all that is known."""
        budget = definition.spec.cost_budget_usd
        if data is None or (budget is not None and budget <= free):
            return budget
        likely = self._planner.expected_usd(definition, data)
        return likely if budget is None else min(likely, budget)
