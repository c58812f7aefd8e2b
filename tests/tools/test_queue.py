"""The queue of a workspace, priorities and GPUs, as a client sees and orders them, in both eras."""

import re

import pytest
from sqlalchemy import select, update

from mcp_server.access import Role
from mcp_server.settings import Settings
from mcp_server.store.schema import studies
from mcp_server.tools import TOOLSETS
from mcp_server.workspace import Workspace
from tests.studies.running import callable_spec, run_inline
from tests.tools.toolbox import ERAS, ask, serving, text


@pytest.fixture
def settings(settings: Settings) -> Settings:
    """Settings of a machine with one GPU."""
    return settings.model_copy(update={"gpus": ("0",)})


def call(workspace: Workspace, tool: str, *, role: Role = Role.OPERATOR, era: str = "auto", **arguments: object):
    return ask(serving(workspace, role, TOOLSETS), tool, arguments, era=era)


@pytest.mark.parametrize("era", ERAS)
def test_the_queue_shows_what_runs_what_waits_and_whose_it_is(workspace: Workspace, era: str) -> None:
    assert "Nothing runs" in text(call(workspace, "get_queue_status", role=Role.VIEWER, era=era))
    workspace.studies.start(callable_spec("done", n_trials=3), "ann")
    run_inline(workspace, "done")
    workspace.studies.start(callable_spec("later", n_trials=5), "bob")
    workspace.studies.start(callable_spec("first", n_trials=7, priority="low"), "ann")
    workspace.studies.control("first", "set_priority", "ann", priority="normal")

    queue = call(workspace, "get_queue_status", role=Role.VIEWER, era=era).structured_content

    assert (queue["slots"], queue["slots_busy"], queue["gpus"], queue["gpus_busy"]) == (2, 0, 1, 0)
    assert queue["studies"]["columns"] == ["study_name", "user", "priority", "state", "running", "queued", "waits_for"]
    assert sorted(queue["studies"]["rows"]) == [
        ["first", "ann", "normal", "queued", 0, 7, "a runner"],
        ["later", "bob", "normal", "queued", 0, 5, "a runner"],
    ]
    assert queue["users"] == {
        "columns": ["user", "running", "queued", "finished"],
        "rows": [["ann", 0, 7, 3], ["bob", 0, 5, 0]],
    }


def test_a_long_queue_is_cut_where_the_caller_says(workspace: Workspace) -> None:
    for number in range(4):
        workspace.studies.start(callable_spec(f"study {number}"), f"user {number}")

    queue = call(workspace, "get_queue_status", limit=2).structured_content

    assert len(queue["studies"]["rows"]) == len(queue["users"]["rows"]) == 2


def test_anybody_lowers_a_priority_and_only_an_admin_raises_one_above_the_others(workspace: Workspace) -> None:
    workspace.studies.start(callable_spec(), "ann")
    order = {"study_name": "study", "action": "set_priority"}

    assert "low priority" in text(call(workspace, "control_automl_study", **order, priority="low"))
    refused = call(workspace, "control_automl_study", **order, priority="high")
    assert refused.is_error
    assert "needs the permission 'admin'" in text(refused)
    assert priority(workspace) == "low"
    call(workspace, "control_automl_study", role=Role.ADMIN, **order, priority="high")
    assert priority(workspace) == "high"


def test_a_start_with_high_priority_needs_an_admin_and_creates_nothing_without(workspace: Workspace) -> None:
    start = {"study_name": "urgent", "data": "titanic.csv", "target": "survived", "priority": "high"}

    assert "needs the permission 'admin'" in text(call(workspace, "start_automl_study", **start))
    assert workspace.studies.read.page().total == 0


def test_the_next_study_in_the_queue_is_the_one_with_the_higher_priority(workspace: Workspace) -> None:
    for name, level in (("calm", "low"), ("usual", "normal")):
        workspace.studies.start(callable_spec(name, priority=level), "ann")
    with workspace.store.write() as connection:
        connection.execute(update(studies).values(state="running", waits_for="cpu", waiting_since=1.0))

    assert [row[0] for row in workspace.queue.status().studies.rows] == ["usual", "calm"]
    assert "waits for a free slot" in workspace.studies.read.status("calm").message


@pytest.mark.parametrize(
    ("changed", "told"),
    [
        ({"gpus": 2}, "Each trial asks for 2 GPUs; there is 1 GPU"),
        ({"gpus": 1, "parallel": 2}, "parallel is 2 with 1 GPU each, but there is 1 GPU.*Use 1 to 1"),
        ({"gpus": -1}, "0"),
    ],
)
@pytest.mark.parametrize("tool", ["plan_automl_study", "start_automl_study"])
def test_more_gpus_than_there_are_cannot_be_asked_for(
    workspace: Workspace, tool: str, changed: dict[str, int], told: str
) -> None:
    name = {"study_name": "greedy"} if tool == "start_automl_study" else {}
    result = call(workspace, tool, data="titanic.csv", target="survived", **name, **changed)

    assert result.is_error
    assert re.search(told, text(result))
    assert workspace.studies.read.page().total == 0


def test_parallel_cannot_be_raised_above_the_gpus_even_by_force(workspace: Workspace) -> None:
    workspace.studies.start(callable_spec(gpus=1), "ann")
    order = {"study_name": "study", "action": "set_parallel", "parallel": 2, "force": True}

    assert "there is 1 GPU" in text(call(workspace, "control_automl_study", **order))


def priority(workspace: Workspace) -> str:
    with workspace.store.read() as connection:
        return str(connection.scalar(select(studies.c.priority)))
