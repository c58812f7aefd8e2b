import pytest

from mcp_server.studies.stopping import FAILURES_WITHOUT_SUCCESS, Limits, Tally, Use, exhausted


def use(**changed: float) -> Use:
    fields = {"started": 3, "complete": 3, "pruned": 0, "failed": 0, "elapsed_s": 10.0, "cost_usd": 0.9}
    return Use(**{**fields, **changed})


@pytest.mark.parametrize(
    ("limits", "used", "reason"),
    [
        (Limits(4), use(), None),
        (Limits(3), use(), "trials"),
        (Limits(3), use(started=4), "trials"),
        (Limits(10, timeout_s=10.0), use(), "timeout"),
        (Limits(10, timeout_s=10.1), use(), None),
        (Limits(10, space_size=3), use(), "grid_exhausted"),
        (Limits(10, cost_usd=1.0), use(median_cost_usd=0.3), "budget"),
        (Limits(10, cost_usd=1.2), use(median_cost_usd=0.3), None),
        (Limits(10), use(complete=0, failed=FAILURES_WITHOUT_SUCCESS), "all_failed"),
        (Limits(10), use(complete=1, failed=FAILURES_WITHOUT_SUCCESS), None),
        (Limits(10), use(complete=0, pruned=1, failed=FAILURES_WITHOUT_SUCCESS), None),
    ],
)
def test_no_trial_starts_once_a_limit_is_reached(limits: Limits, used: Use, reason: str | None) -> None:
    assert exhausted(limits, used) == reason


def test_a_trial_that_runs_is_expected_to_cost_the_median_at_least() -> None:
    used = Tally(costs=[0.3]).use(started=3, elapsed_s=1.0, in_flight_usd=[0.0, 0.5])

    assert used.cost_usd == pytest.approx(0.3 + 0.3 + 0.5)
    assert exhausted(Limits(10, cost_usd=1.2), used) == "budget"
