"""Budgets, prices, charges, approvals and forecasts of studies that run inside the test."""

import time
from pathlib import Path
from statistics import fmean

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sqlalchemy import update

from mcp_server.access import Principal, Role
from mcp_server.errors import BudgetExceededError, ConflictError, InvalidRequestError, PermissionDeniedError
from mcp_server.settings import Settings
from mcp_server.store.schema import attempts, studies
from mcp_server.studies.decision import Decision
from mcp_server.studies.forecast import total_of
from mcp_server.studies.ledger import Ledger
from mcp_server.studies.machine import gpu_model
from mcp_server.studies.prices import EXAMPLE, Prices
from mcp_server.studies.pricing import Pricing
from mcp_server.studies.projection import Attempt
from mcp_server.studies.spec import PlanSpec, StudySpec
from mcp_server.studies.team_budget import TeamBudget, month_start
from mcp_server.workspace import Workspace
from tests.studies.running import callable_spec, run_inline
from tests.studies.test_runner import HERE, study_id

ADMIN = Principal("dana", Role.ADMIN)
TOKENS = {"small": [1e-6, 1e-6]}


def start(workspace: Workspace, objective: str = "charges", name: str = "study", **changed: object) -> None:
    spec = callable_spec(name, objective=f"study_objectives:{objective}", python_path=[HERE], **changed)
    workspace.studies.start(spec, "ann")


def run(workspace: Workspace, name: str = "study", pricing: Pricing | None = None) -> None:
    run_inline(workspace, name, pricing=pricing or Pricing(token_prices=TOKENS))


def written(workspace: Workspace, text: str) -> None:
    workspace.settings.workspace.mkdir(exist_ok=True)
    (workspace.settings.workspace / "costs.yaml").write_text(text, encoding="utf-8")


def team(settings: Settings, name: str = "vision") -> Settings:
    return settings.model_copy(update={"team": name})


# --- charges and budgets


def test_a_budget_of_one_dollar_pays_three_trials_of_thirty_cents_and_the_fourth_is_not_started(
    workspace: Workspace,
) -> None:
    start(workspace, n_trials=10, cost_budget_usd=1.0)
    run(workspace)

    status = workspace.studies.read.status("study")
    assert (status.n_complete, status.state, status.stop_reason) == (3, "stopped", "budget")
    assert status.cost_usd == pytest.approx(0.90, abs=1e-9)
    assert [job.cost_usd for job in workspace.studies.read.jobs("study")] == [pytest.approx(0.30)] * 3


def test_a_running_trial_that_crosses_the_budget_is_cut_at_its_next_report_and_every_charge_counts(
    workspace: Workspace,
) -> None:
    start(workspace, "charges_an_unknown_model", n_trials=1)
    run(workspace)
    (trial,) = workspace.studies.read.trials("study")
    assert "no price for tokens of 'large'" in (trial.error or "")
    assert "costs.yaml" in (trial.error or "")

    start(workspace, "reports_what_it_costs", "cut", n_trials=5, cost_budget_usd=1.0)
    run(workspace, "cut")
    (trial, *more) = workspace.studies.read.trials("cut")
    assert (trial.state, more) == ("pruned", [])
    assert trial.explanation == "cut at step 3: the study reached its limit (budget)"
    assert workspace.studies.read.status("cut").cost_usd == pytest.approx(1.2)


def test_an_attempt_whose_runner_was_killed_costs_what_was_last_recorded(workspace: Workspace) -> None:
    start(workspace, n_trials=1)
    ledger = Ledger(workspace.store, workspace.settings, study_id(workspace))
    ledger.begin()
    attempt = Attempt(0, 0, {"x": 1.0, "k": "a"}, "sampler", 1.0, usd_per_second=0.01, charged_usd=0.5)
    ledger.trials.open(attempt, "log")
    ledger.tick(7.0, [(attempt, 7.0)])

    run(workspace)  # another runner, which finds the attempt lost

    first, second = workspace.studies.read.jobs("study")
    assert (first.state, first.seconds, first.cost_usd) == ("lost", 7.0, pytest.approx(0.57))
    assert second.cost_usd == pytest.approx(0.30)
    assert workspace.studies.read.status("study").cost_usd == pytest.approx(0.87)


def test_the_best_trial_is_named_among_those_inside_the_budget(workspace: Workspace) -> None:
    start(workspace, n_trials=3, cost_budget_usd=1.0, direction="maximize")
    run(workspace)
    with workspace.store.write() as connection:  # as if three had run at once and each had cost more than expected
        connection.execute(update(attempts).values(cost_usd=0.45))

    best = workspace.studies.read.best("study")
    assert best.trial == workspace.studies.read.status("study").best_trial == 2
    assert best.message.endswith("It ended when the budget was used up; within_usd=1 gives the best inside it.")
    assert workspace.studies.read.best("study", within_usd=1.0).trial == 1
    assert workspace.studies.read.best("study", within_usd=2.0).trial == 2
    with pytest.raises(ConflictError, match=r"no completed trial that came within \$0.1"):
        workspace.studies.read.best("study", within_usd=0.1)


# --- prices


def test_prices_are_read_from_a_file_that_people_edit(workspace: Workspace) -> None:
    written(workspace, EXAMPLE)
    prices = Prices.load(workspace.settings)

    assert prices.usd_per_second(2, ["NVIDIA H100 80GB HBM3", "Tesla T4"]) == pytest.approx((0.08 + 2.5 + 0.6) / 3600)
    assert prices.token_prices()["small"] == [pytest.approx(0.15e-6), pytest.approx(0.6e-6)]
    assert (prices.monthly_usd("vision"), prices.monthly_usd("nlp"), prices.monthly_usd(None)) == (300, None, None)
    assert (prices.free_of_approval_usd("vision"), prices.free_of_approval_usd("nlp")) == (50, 20)


def test_without_a_file_the_setting_is_the_price(settings: Settings) -> None:
    priced = settings.model_copy(update={"usd_per_cpu_hour": 3.6})

    assert Prices.load(priced).usd_per_second(2) == pytest.approx(0.002)
    assert Prices.load(settings).free


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("usd_per_cpu_hour: -1", "usd_per_cpu_hour"),
        ("usd_per_cpu_hour: .nan", "usd_per_cpu_hour"),
        ("usd_per_hour: 1", "usd_per_hour"),
        ("teams: {vision: {monthly: 3}}", "teams.vision.monthly"),
        ("teams:\n  vision: {monthly_usd: 3\nx: 1", "line 3"),
        ("- 1", "list of names"),
        ("a: !!python/object:os.system x", "line 1"),
        ("usd_per_cpu_hour: 1e-4\nteams: {'../x': {}}", "teams"),
    ],
)
def test_a_file_of_prices_that_cannot_be_read_is_refused_by_line_or_key_and_nothing_is_created(
    workspace: Workspace, text: str, told: str
) -> None:
    written(workspace, text)

    with pytest.raises(InvalidRequestError, match=told):
        start(workspace)
    assert workspace.studies.read.page().total == 0


def test_the_model_of_a_gpu_is_what_the_driver_calls_it(tmp_path: Path) -> None:
    for bus, model, uuid in (("0000:01:00.0", "NVIDIA H100", "GPU-a"), ("0000:02:00.0", "Tesla T4", "GPU-b")):
        (tmp_path / bus).mkdir()
        text = f"Model: \t\t {model}\nIRQ:   \t\t 24\nGPU UUID: \t {uuid}\n"
        (tmp_path / bus / "information").write_text(text, encoding="utf-8")

    found = [gpu_model(gpu, tmp_path) for gpu in ("0", "1", "GPU-a", "GPU-b")]
    assert found == ["NVIDIA H100", "Tesla T4"] * 2
    assert gpu_model("7", tmp_path) == gpu_model("0", tmp_path / "none") == ""


# --- teams


def test_no_trial_starts_that_the_month_of_the_team_does_not_cover(settings: Settings) -> None:
    with Workspace(team(settings), launch=lambda *_: None) as workspace:
        written(workspace, "teams: {vision: {monthly_usd: 1.0}}")
        start(workspace, n_trials=2, name="first")
        run(workspace, "first", budgeted(workspace, "first"))
        start(workspace, n_trials=9, name="second")
        run(workspace, "second", budgeted(workspace, "second"))

        status = workspace.studies.read.status("second")
        assert (status.n_complete, status.state, status.stop_reason) == (1, "stopped", "team_budget")
        assert "month is used up" in (status.next_step or "")
        budgets = workspace.costs.report().budgets
        assert budgets is not None
        assert budgets.rows[0][:4] == ["vision", 1.0, pytest.approx(0.9), pytest.approx(0.1)]
        assert budgets.rows[0][4] >= 0.9  # type: ignore[operator]

        with workspace.store.write() as connection:
            connection.execute(update(attempts).values(cost_usd=0.40))
        with pytest.raises(BudgetExceededError, match=r"vision has spent \$1.20 of the \$1.00"):
            start(workspace, name="third")
        assert workspace.studies.read.page().total == 2


def test_what_a_team_spent_in_another_month_or_another_team_spent_is_not_counted(settings: Settings) -> None:
    with Workspace(team(settings), launch=lambda *_: None) as workspace:
        written(workspace, "teams: {vision: {monthly_usd: 1.0}}")
        start(workspace, n_trials=3, name="old")
        run(workspace, "old")
        with workspace.store.write() as connection:
            connection.execute(update(attempts).values(ended_at=month_start(time.time()) - 1.0))
        start(workspace, n_trials=3, name="foreign")
        with workspace.store.write() as connection:
            connection.execute(update(studies).where(studies.c.name == "foreign").values(team="nlp"))
        run(workspace, "foreign")

        start(workspace, n_trials=3, name="new")
        run(workspace, "new", budgeted(workspace, "new"))
        assert workspace.studies.read.status("new").n_complete == 3


def budgeted(workspace: Workspace, name: str) -> Pricing:
    ledger = Ledger(workspace.store, workspace.settings, id_of(workspace, name))
    monthly = Prices.load(workspace.settings).monthly_usd(ledger.team)
    return Pricing(token_prices=TOKENS, team=TeamBudget(monthly, ledger.team_spent))


def id_of(workspace: Workspace, name: str) -> str:
    with workspace.store.read() as connection:
        return str(connection.scalar(studies.select().where(studies.c.name == name).with_only_columns(studies.c.id)))


# --- approvals


@pytest.fixture
def ruled(workspace: Workspace) -> Workspace:
    """A workspace in which anything above half a dollar needs an approval."""
    written(workspace, "approve_above_usd: 0.5")
    return workspace


def test_a_study_that_may_cost_too_much_waits_and_starts_when_it_is_approved(ruled: Workspace) -> None:
    start(ruled, n_trials=10, cost_budget_usd=5.0)
    status = ruled.studies.read.status("study")
    assert (status.state, status.n_complete) == ("waiting for approval", 0)
    assert "expected to cost $5.00, and above $0.50 an admin has to approve it" in status.message
    assert ruled.studies.unattended() == []
    assert ruled.studies.read.ended("study")
    waiting = ruled.costs.report().waiting
    assert waiting is not None
    assert waiting.rows == [["study", "ann", None, 5.0, 0.0]]

    approved = ruled.studies.decide("study", ADMIN, Decision(limit_usd=1.3, reason="a test"))
    assert approved.note == approved.approval == "dana approved up to $1.30: a test."
    assert approved.state == "queued"
    run(ruled)

    status = ruled.studies.read.status("study")
    assert (status.state, status.stop_reason, status.n_complete) == ("waiting for approval", "approval", 4)
    ruled.studies.decide("study", ADMIN, Decision(limit_usd=9.0))
    run(ruled)
    assert ruled.studies.read.status("study").n_complete == 10
    kinds = [(event.kind, event.actor) for event in ruled.studies.read.events("study", 100).events]
    assert kinds.count(("approved", "dana")) == 2


def test_a_study_below_the_threshold_starts_and_cannot_cost_more_without_an_approval(ruled: Workspace) -> None:
    start(ruled, n_trials=10, cost_budget_usd=0.4)
    assert ruled.studies.read.status("study").state == "queued"
    run(ruled)
    assert ruled.studies.read.status("study").stop_reason == "budget"

    more = callable_spec(objective="study_objectives:charges", python_path=[HERE], n_trials=20, cost_budget_usd=100.0)
    ruled.studies.start(more, "ann")
    run(ruled)

    status = ruled.studies.read.status("study")
    assert (status.state, status.stop_reason) == ("waiting for approval", "approval")
    assert status.cost_usd <= 0.5


def test_a_declined_study_ends_says_why_and_cannot_be_resumed_past_the_decision(ruled: Workspace) -> None:
    start(ruled, n_trials=3)
    status = ruled.studies.read.status("study")
    assert "Its cost is not known" in status.message

    with pytest.raises(InvalidRequestError, match="limit_usd="):
        ruled.studies.decide("study", ADMIN, Decision())
    ruled.studies.decide("study", ADMIN, Decision(decline=True, reason="too dear"))
    run(ruled)
    status = ruled.studies.read.status("study")
    assert (status.state, status.approval) == ("stopped", "dana declined it: too dear.")

    ruled.studies.control("study", "resume", "ann")
    run(ruled)
    status = ruled.studies.read.status("study")
    assert (status.state, status.n_complete) == ("waiting for approval", 0)


def test_who_may_not_approve_and_what_needs_no_approval_is_refused(ruled: Workspace) -> None:
    start(ruled, n_trials=3)
    with pytest.raises(PermissionDeniedError, match="needs the permission 'approve'"):
        ruled.studies.decide("study", Principal("ann", Role.OPERATOR), Decision(limit_usd=9.0))
    for action in ("resume", "pause"):
        with pytest.raises(ConflictError, match="waits for an approval"):
            ruled.studies.control("study", action, "ann")
    assert ruled.studies.read.status("study").state == "waiting for approval"

    start(ruled, n_trials=1, name="cheap", cost_budget_usd=0.1)
    with pytest.raises(ConflictError, match="needs no approval"):
        ruled.studies.decide("cheap", ADMIN, Decision(limit_usd=9.0))
    with pytest.raises(ValueError, match="does nothing when a study is declined"):
        Decision(limit_usd=1.0, decline=True)


def test_a_waiting_study_can_be_stopped_by_its_owner(ruled: Workspace) -> None:
    start(ruled, n_trials=3)
    ruled.studies.control("study", "stop", "ann")
    run(ruled)

    assert ruled.studies.read.status("study").state == "stopped"


def test_the_expected_cost_of_a_table_is_measured(ruled: Workspace, settings: Settings) -> None:
    dear = {"workspace": settings.workspace, "usd_per_cpu_hour": 1e6}
    with Workspace(settings.model_copy(update=dear), launch=lambda *_: None) as workspace:
        plan = {"data": "titanic.csv", "target": "survived", "estimator": "logistic_regression"}
        workspace.studies.start(StudySpec.model_validate({"study_name": "table", **plan, "n_trials": 50}), "ann")

        status = workspace.studies.read.status("table")
        assert status.state == "waiting for approval"
        planned = workspace.studies.plan(PlanSpec.model_validate({**plan, "n_trials": 50}), "ann")
        assert "Above $0.50 it waits until an admin approves it." in planned.message
        low, likely, high = planned.estimated_cost_usd
        assert 0.5 < low <= likely <= high


# --- forecasts


def test_the_forecast_of_a_steady_study_is_within_a_fifth_of_what_it_cost(workspace: Workspace) -> None:
    start(workspace, n_trials=40, cost_budget_usd=3.2)
    run(workspace)
    with workspace.store.write() as connection:
        connection.execute(update(studies).values(state="paused", elapsed_s=60.0))
        rng = np.random.default_rng(7)
        for number in range(10):
            mine = attempts.c.number == number
            connection.execute(update(attempts).where(mine).values(cost_usd=rng.uniform(0.2, 0.4), seconds=6.0))

    forecast = workspace.studies.read.status("study").forecast

    assert forecast is not None
    low, likely, high = forecast.cost_usd
    assert likely == pytest.approx(40 * 0.30, rel=0.2)
    assert low < likely < high
    assert forecast.remaining_s == [180.0, 180.0, 180.0]
    with workspace.store.write() as connection:
        connection.execute(update(studies).values(elapsed_s=15.0))  # four at a time, as nobody said how many
    forecast = workspace.studies.read.status("study").forecast
    assert forecast is not None
    assert forecast.remaining_s == [45.0, 45.0, 45.0]


def test_too_few_trials_forecast_nothing_and_an_ended_study_needs_no_forecast(workspace: Workspace) -> None:
    assert total_of([1.0, 2.0], 5) is None
    start(workspace, n_trials=4)
    run(workspace)
    assert workspace.studies.read.status("study").forecast is None


@given(st.lists(st.floats(0.0, 1e6), min_size=3, max_size=50), st.integers(0, 1000))
def test_a_forecast_is_never_less_than_what_is_spent(known: list[float], remaining: int) -> None:
    found = total_of(known, remaining, spent=sum(known))

    assert found is not None
    assert found.high >= found.likely >= found.low >= min(sum(known), found.likely) - 1e-6
    assert found.likely == pytest.approx(sum(known) + remaining * fmean(known))


def test_the_interval_holds_as_often_as_it_says() -> None:
    rng, inside = np.random.default_rng(0), 0
    for _ in range(2_000):
        costs = [rng.normal(10, 2) for _ in range(20)]
        found = total_of(costs[:6], 14, spent=sum(costs[:6]))
        assert found is not None
        inside += found.low <= sum(costs) <= found.high

    assert 0.93 <= inside / 2_000 <= 0.97
