"""Costs and approvals from a terminal."""

import json

from typer.testing import CliRunner, Result

from mcp_server.cli import application
from mcp_server.workspace import Workspace
from tests.studies.running import callable_spec


def run(workspace: Workspace, *arguments: str) -> Result:
    place = ["--workspace", str(workspace.settings.workspace)]
    return CliRunner().invoke(application(), [*arguments, *place], env={"COLUMNS": "200"})


def test_the_example_of_prices_is_one_that_can_be_used(workspace: Workspace) -> None:
    example = run(workspace, "costs", "--example").output
    workspace.settings.workspace.mkdir(exist_ok=True)
    (workspace.settings.workspace / "costs.yaml").write_text(example, encoding="utf-8")

    printed = run(workspace, "costs").output
    assert "vision" in printed
    assert "300" in printed
    assert json.loads(run(workspace, "costs", "--json").output)["budgets"]["rows"][0][:2] == ["vision", 300.0]


def test_a_waiting_study_is_listed_approved_and_declined(workspace: Workspace) -> None:
    workspace.settings.workspace.mkdir(exist_ok=True)
    (workspace.settings.workspace / "costs.yaml").write_text("approve_above_usd: 1", encoding="utf-8")
    for name in ("wanted", "unwanted"):
        workspace.studies.start(callable_spec(name, cost_budget_usd=7.5), "ann")
    assert "unwanted" in run(workspace, "costs").output

    assert "local approved up to $7.50." in run(workspace, "approve", "wanted").output
    declined = run(workspace, "approve", "unwanted", "--decline", "--reason", "not now")
    assert "local declined it: not now." in declined.output
    assert workspace.costs.report().waiting is None
    again = run(workspace, "approve", "wanted", "--decline")
    assert again.exit_code
    assert "does not wait for an approval" in str(again.exception)
