"""Reports of what trials cost, through a client."""

from collections.abc import Iterator
from datetime import UTC, datetime

import pytest
from sqlalchemy import insert

from mcp_server.access import Role
from mcp_server.settings import Settings
from mcp_server.store.schema import attempts, studies, trials
from mcp_server.studies.spec import CallableStudySpec
from mcp_server.tools import TOOLSETS
from mcp_server.workspace import Workspace
from tests.studies.running import callable_spec, run_inline
from tests.tools.toolbox import ERAS, ask, serving, text

NEW_YEAR = datetime(2027, 1, 1, tzinfo=UTC).timestamp()  # a Friday: the week began in the old year
SPENT = {  # study: team, owner, tags, and the cost and the end of each attempt
    "churn": ("risk", "ann", {"project": "x"}, [(0.1, NEW_YEAR - 1), (0.2, NEW_YEAR)]),
    "fraud": ("risk", "bob", {"project": "y"}, [(0.7, NEW_YEAR), (0.1, NEW_YEAR + 4 * 86_400)]),
    "price": (None, "ann", None, [(1e-7, NEW_YEAR - 40 * 86_400), (3.3, None)]),
}


@pytest.fixture
def settings(settings: Settings) -> Settings:
    """Settings that offer the tools for teams."""
    return settings.model_copy(update={"toolsets": ("team",)})


@pytest.fixture
def spent(workspace: Workspace) -> Workspace:
    """A workspace with studies that cost what `SPENT` says."""
    for name, (team, owner, tags, costs) in SPENT.items():
        workspace.studies.start(callable_spec(name), "tester")
        with workspace.store.write() as connection:
            mine = studies.c.name == name
            connection.execute(studies.update().where(mine).values(team=team, owner=owner, tags=tags))
            key = {"study_id": connection.execute(studies.select().where(mine)).one().id, "number": 0}
            trial = {**key, "state": "complete", "source": "sampler", "params": {}, "optuna_number": 0}
            connection.execute(insert(trials).values(**trial, started_at=0.0))
            for attempt, (usd, ended_at) in enumerate(costs):
                row = {**key, "attempt": attempt, "log_path": "", "started_at": 0.0, "cost_usd": usd}
                state = "running" if ended_at is None else "lost"
                connection.execute(insert(attempts).values(**row, state=state, ended_at=ended_at))
    return workspace


def report(workspace: Workspace, **arguments: object) -> dict:
    result = ask(serving(workspace, Role.VIEWER, TOOLSETS), "get_budget_report", arguments)
    assert not result.is_error, text(result)
    return result.structured_content


def groups(workspace: Workspace, **arguments: object) -> list[tuple]:
    return [tuple(row) for row in report(workspace, **arguments)["groups"]["rows"]]


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [({"by": "team"}, [("risk", 4, 1.1), ("(none)", 1, 1e-7)]),
     ({"by": "user"}, [("bob", 2, 0.8), ("ann", 3, 0.3000001)]),
     ({"by": "study"}, [("fraud", 2, 0.8), ("churn", 2, 0.3), ("price", 1, 1e-7)]),
     ({"by": "tag", "tag": "project"}, [("y", 2, 0.8), ("x", 2, 0.3), ("(none)", 1, 1e-7)]),
     ({"by": "week"}, [("2026-W53", 3, 1.0), ("2027-W01", 1, 0.1), ("2026-W47", 1, 1e-7)])],
    ids=lambda value: value["by"] if isinstance(value, dict) else None,
)  # fmt: skip
def test_what_was_spent_is_added_up_by_each_grouping_to_the_same_total(spent: Workspace, arguments, expected) -> None:
    answer = report(spent, **arguments)

    rows = [tuple(row) for row in answer["groups"]["rows"]]
    assert rows == expected
    assert answer["total_usd"] == 1.1000001
    assert sum(round(usd * 1e9) for *_, usd in rows) == round(answer["total_usd"] * 1e9)


def test_a_month_counts_what_ended_in_it(spent: Workspace) -> None:
    assert groups(spent, by="study", month="2026-12") == [("churn", 1, 0.1)]
    assert groups(spent, by="study", month="2027-01") == [("fraud", 2, 0.8), ("churn", 1, 0.2)]
    assert report(spent, month="2025-01")["total_usd"] == 0


def test_groups_beyond_the_limit_are_one_row_and_the_total_stays(spent: Workspace) -> None:
    answer = report(spent, by="study", limit=1)

    assert answer["groups"]["rows"] == [["fraud", 2, 0.8], ["(others)", 3, 0.3000001]]
    assert answer["total_usd"] == 1.1000001


@pytest.mark.parametrize(
    ("arguments", "said"),
    [({"by": "tag"}, "needs the name of a tag"),
     ({"by": "team", "tag": "project"}, "tag means nothing"),
     ({"month": "2026-13"}, "month"),
     ({"by": "planet"}, "week")],
)  # fmt: skip
def test_a_report_that_makes_no_sense_is_refused_in_a_sentence(workspace: Workspace, arguments, said) -> None:
    result = ask(serving(workspace, Role.VIEWER, TOOLSETS), "get_budget_report", arguments)

    assert result.is_error
    assert said in text(result)


@pytest.fixture
def teams(settings: Settings) -> Iterator[Workspace]:
    """A workspace of a team that pays for its cores."""
    priced = settings.model_copy(update={"team": "risk", "usd_per_cpu_hour": 3600.0})
    with Workspace(priced, launch=lambda *_: None) as opened:
        yield opened


def test_a_study_is_charged_to_the_team_and_the_tags_it_was_started_with(teams: Workspace) -> None:
    teams.studies.start(callable_spec(n_trials=3, tags={"project": "churn"}), "ann")
    run_inline(teams)

    spent = [job.cost_usd for job in teams.studies.read.jobs("study")]
    for arguments, group in (({"by": "team"}, "risk"), ({"by": "tag", "tag": "project"}, "churn")):
        assert [row[:2] for row in groups(teams, **arguments)] == [(group, 3)]
    assert report(teams)["total_usd"] == pytest.approx(sum(spent), abs=1e-8)


@pytest.mark.parametrize("era", ERAS)
def test_an_admin_finds_what_waits_and_approves_it_through_a_client(workspace: Workspace, era: str) -> None:
    workspace.settings.workspace.mkdir(exist_ok=True)
    (workspace.settings.workspace / "costs.yaml").write_text("approve_above_usd: 1", encoding="utf-8")
    workspace.studies.start(callable_spec(cost_budget_usd=7.5), "ann")
    assert workspace.studies.read.status("study").state == "waiting for approval"
    assert report(workspace)["waiting"]["rows"] == [["study", "ann", None, 7.5, 0.0]]

    refused = ask(serving(workspace, Role.OPERATOR, TOOLSETS), "approve", {"study_name": "study"}, era=era)
    assert refused.is_error
    assert "permission 'approve'" in text(refused)
    admin = serving(workspace, Role.ADMIN, TOOLSETS)
    both = ask(admin, "approve", {"study_name": "study", "limit_usd": 3, "decline": True}, era=era)
    assert "does nothing when a study is declined" in text(both)
    approved = ask(admin, "approve", {"study_name": "study", "limit_usd": 3.0}, era=era).structured_content
    assert (approved["state"], approved["note"]) == ("queued", "ann approved up to $3.00.")


def test_attempts_that_were_free_are_said_to_be_free(workspace: Workspace) -> None:
    workspace.studies.start(callable_spec(n_trials=1), "ann")
    run_inline(workspace)

    assert "TUNING_USD_PER_CPU_HOUR" in report(workspace)["note"]


@pytest.mark.parametrize("name", ["mlflow.parentRunId", "mcp.uid", "user", "team", "agent"])
def test_a_tag_that_would_disguise_a_run_is_refused(name: str) -> None:
    fields = callable_spec().model_dump(exclude_unset=True)

    with pytest.raises(ValueError, match=f"the tag '{name}' is set by the server"):
        CallableStudySpec.model_validate({**fields, "tags": {name: "x"}})
