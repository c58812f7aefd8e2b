"""What a client hears while it waits for a study, on both eras of the protocol."""

import threading

import anyio
import pytest
from mcp import Client
from sqlalchemy import select, update

from mcp_server.access import Principal, Role
from mcp_server.server import build_server
from mcp_server.store.schema import studies
from mcp_server.studies import events, service
from mcp_server.workspace import Workspace
from tests.studies.running import callable_spec, run_inline

AGREED_S = 10


@pytest.fixture(params=["legacy", "2026-07-28"])
def era(request: pytest.FixtureRequest) -> str:
    return request.param


def wait_for(workspace: Workspace, era: str, wait_s: float, on_first=lambda: None) -> tuple[dict, list[tuple]]:
    """The status that a client gets after it waited, and what it heard meanwhile."""
    told: list[tuple] = []

    async def show(done: float, total: float | None, message: str | None) -> None:
        told.append((done, total, message))
        if len(told) == 1:
            on_first()

    async def session() -> dict:
        server = build_server(workspace, caller=lambda: Principal("ann", Role.OPERATOR))
        async with Client(server, mode=era) as client:
            arguments = {"study_name": "study", "wait_s": wait_s}
            result = await client.call_tool("get_automl_study_status", arguments, progress_callback=show)
            await client.call_tool("list_automl_studies", {})  # what was sent before the answer is heard by now
            heard = len(told)
            for _ in range(3):
                await client.call_tool("list_automl_studies", {})
            assert len(told) == heard
            return result.structured_content

    return anyio.run(session), told


def test_a_client_that_waits_hears_of_it_until_the_study_ends(
    workspace: Workspace, era: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(service, "PROGRESS_EVERY_S", 0.01)
    workspace.studies.start(callable_spec(n_trials=6), "ann")
    running = threading.Thread(target=run_inline, args=(workspace,))

    status, told = wait_for(workspace, era, 45, on_first=running.start)
    running.join()

    assert status["state"] == "finished"
    assert told[0] == (0, 6, "trial 0/6, waits for a runner")
    assert {total for _, total, _ in told} == {6}
    assert all("\n" not in message for *_, message in told)


def test_signs_of_life_come_often_enough_for_a_host_that_waits() -> None:
    assert service.PROGRESS_EVERY_S + service.POLL_S <= AGREED_S


@pytest.mark.parametrize(
    ("state", "why", "line"),
    [
        ("queued", None, "trial 0/6, waits for a runner"),
        ("running", None, "trial 0/6, waits for the first trial to start"),
        ("running", "space on the disk", "trial 0/6, waits for space on the disk"),
    ],
)
def test_a_client_hears_what_is_waited_for_when_nothing_runs(
    workspace: Workspace, era: str, state: str, why: str | None, line: str
) -> None:
    workspace.studies.start(callable_spec(n_trials=6), "ann")
    with workspace.store.write() as connection:
        connection.execute(update(studies).values(state=state))
        if why is not None:
            study_id = connection.scalar(select(studies.c.id))
            events.record(connection, study_id, "waiting", detail={"for": why})

    _, told = wait_for(workspace, era, 0.05)

    assert told == [(0, 6, line)]


def test_what_was_waited_for_is_forgotten_when_something_happens(workspace: Workspace) -> None:
    workspace.studies.start(callable_spec(n_trials=6), "ann")
    with workspace.store.write() as connection:
        study_id = connection.scalar(select(studies.c.id))
        events.record(connection, study_id, "waiting", detail={"for": "a free slot"})
    assert workspace.studies.read.progress("study").line.endswith("waits for a free slot")

    run_inline(workspace)

    assert "waits" not in workspace.studies.read.progress("study").line
