"""Orders as a client gives them, in both eras: what they change, and that what is refused changes nothing."""

import json
import re
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import optuna
import pytest
from mcp import Client
from mcp.types import CallToolResult
from sqlalchemy import select

from mcp_server.access import Principal, Role
from mcp_server.server import build_server
from mcp_server.store.schema import commands, events, spaces, studies, trials
from mcp_server.workspace import Workspace
from tests.studies.running import callable_spec, run_inline

TREE = {
    "model": ["svc", "knn"],
    "svc.C": {"low": 1e-3, "high": 10.0, "log": True, "when": {"model": ["svc"]}},
    "knn.k": {"low": 1, "high": 30, "when": {"model": ["knn"]}},
}
HERE = "tests.tools.test_control"

Control = Callable[..., Any]


def either(trial: Any) -> float:
    """An objective of the tree: better for a small `knn.k` and a large `svc.C`."""
    return float(trial.params.get("knn.k", 31)) - float(trial.params.get("svc.C", 0.0))


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


@pytest.fixture(params=["auto", "legacy"])
async def client(workspace: Workspace, request: pytest.FixtureRequest, anyio_backend: str) -> AsyncIterator[Client]:
    async with connected(workspace, Principal("tester", Role.OPERATOR), request.param) as client:
        yield client


@asynccontextmanager
async def connected(workspace: Workspace, principal: Principal, era: str = "auto") -> AsyncIterator[Client]:
    async with Client(build_server(workspace, caller=lambda: principal), mode=era) as client:
        yield client


async def control(client: Client, action: str, study_name: str = "study", **parameters: object) -> CallToolResult:
    arguments = {"study_name": study_name, "action": action, **parameters}
    return await client.call_tool("control_automl_study", arguments)


async def done(client: Client, action: str, **parameters: object) -> dict[str, Any]:
    result = await control(client, action, **parameters)
    assert not result.is_error, text(result)
    return result.structured_content or {}


def text(result: CallToolResult) -> str:
    return " ".join(getattr(block, "text", "") for block in result.content)


def start(workspace: Workspace, **changed: object) -> None:
    workspace.studies.start(callable_spec(**{"sampler": "random", **changed}), "tester")


def ran(workspace: Workspace, n_trials: int = 3, **changed: object) -> None:
    """A study with more trials to come: it ran `n_trials`, and was paused."""
    start(workspace, n_trials=n_trials, **changed)
    run_inline(workspace)
    workspace.studies.control("study", "extend", "tester", n_trials=n_trials + 10)
    workspace.studies.control("study", "pause", "tester")
    run_inline(workspace)


def stored(workspace: Workspace) -> str:
    """Everything that an order may change."""
    with workspace.store.read() as connection:
        tables = (studies, commands, spaces, events)
        return json.dumps([[list(row) for row in connection.execute(select(table))] for table in tables])


def params_of(workspace: Workspace) -> list[dict[str, Any]]:
    return [trial.params for trial in workspace.studies.read.trials("study")]


def optuna_study(workspace: Workspace, name: str = "study") -> optuna.Study:
    return optuna.load_study(study_name=name, storage=f"sqlite:///{workspace.settings.workspace / 'optuna.db'}")


REFUSED = [
    ("pause", {"n_trials": 9}, "n_trials does nothing with pause. pause takes no parameters"),
    ("resume", {"how": "drain", "parallel": 3}, "how and parallel do nothing with resume"),
    ("extend", {"params": {"x": 1}}, "params does nothing with extend. extend takes n_trials, timeout_s"),
    ("set_parallel", {}, "set_parallel needs parallel"),
    ("enqueue", {}, "enqueue needs params"),
    ("narrow", {}, "narrow needs search_space"),
    ("set_parallel", {"parallel": 3}, "there are 2 cores.*Use 1 to 2, or pass force=true"),
    ("set_parallel", {"parallel": 99, "force": True}, "the limit is 8"),
    ("stop", {"how": "later"}, "now.*drain"),
    ("stop", {"trial": 1, "how": "drain"}, "how does nothing when one trial is stopped"),
    ("stop", {"trial": 99}, "Trial 99 of study 'study' has not begun. None runs"),
    ("stop", {"trial": 1}, "Trial 1 of study 'study' is complete already"),
    ("enqueue", {"params": {"x": 1.0, "K": "a"}}, "there is no 'K', known: x, k; k is missing; it is one of"),
    ("enqueue", {"params": {"x": 7, "k": "a"}}, r"x is 7\.0, but is float -5\.\.5 \(nearest: 5\)"),
    ("enqueue", {"params": {"x": "hello", "k": "A"}}, r"x is hello, but is float -5\.\.5; k is A.*one of \['a', 'b'\]"),
    ("enqueue", {"params": {"x": True, "k": "a"}}, "x is True"),
    ("narrow", {"search_space": {"y": [1]}}, "The search space has no 'y': known: x, k"),
    ("narrow", {"search_space": {"x": {"high": 9}}}, r"float -5\.\.9 does not narrow it.*action='widen'"),
    ("widen", {"search_space": {"x": {"high": 1}}}, "does not widen it"),
    ("narrow", {"search_space": {"x": {"log": True}}}, "its log cannot change in a study that has begun"),
    ("narrow", {"search_space": {"x": {"low": 3, "high": 2}}}, "low 3 > high 2"),
    ("narrow", {"search_space": {"k": ["c"]}}, "does not narrow it"),
    ("narrow", {"search_space": {"k": []}}, "this one has 0"),
    ("narrow", {"search_space": {"k": ["b", "a"]}}, "changes nothing of the search space. It has x: float -5..5"),
]  # fmt: skip


@pytest.mark.anyio
async def test_what_does_not_fit_is_refused_in_a_sentence_and_changes_nothing(
    workspace: Workspace, client: Client
) -> None:
    ran(workspace)
    before = stored(workspace)
    for action, parameters, expected in REFUSED:
        result = await control(client, action, **parameters)

        assert result.is_error, (action, parameters)
        assert re.search(expected, text(result), re.DOTALL), text(result)
        assert "reference" not in text(result), "a masked crash is a bug"
        assert stored(workspace) == before, (action, parameters)


@pytest.mark.anyio
async def test_a_candidate_is_tried_next_once_and_counts_as_one_of_the_trials(
    workspace: Workspace, client: Client
) -> None:
    start(workspace, n_trials=4)
    answer = await done(client, "enqueue", params={"x": 1, "k": "b"})
    assert answer["note"] == "The candidate is tried next, as one of the 4 trials: 0 have begun and 1 wait."
    assert answer["n_waiting"] == 1
    await done(client, "enqueue", params={"k": "a", "x": -2.5})
    run_inline(workspace)

    found = workspace.studies.read.trials("study")
    assert [(t.source, t.params) for t in found[:2]] == [
        ("enqueued", {"x": 1.0, "k": "b"}), ("enqueued", {"x": -2.5, "k": "a"})
    ]  # fmt: skip
    assert [t.source for t in found[2:]] == ["sampler", "sampler"]
    assert workspace.studies.read.status("study").n_waiting is None
    assert [t.params for t in optuna_study(workspace).trials[:2]] == [t.params for t in found[:2]]


@pytest.mark.anyio
async def test_a_candidate_waits_in_a_paused_study_and_is_refused_by_an_ended_one(
    workspace: Workspace, client: Client
) -> None:
    ran(workspace, n_trials=2)
    answer = await done(client, "enqueue", params={"x": 0.0, "k": "a"})
    assert answer["state"] == "paused"
    assert answer["note"].endswith("2 have begun and 1 wait, and the study is paused.")
    assert workspace.studies.revive() == [], "a candidate alone is no work for a runner"
    await done(client, "resume")
    run_inline(workspace)
    assert params_of(workspace)[2] == {"x": 0.0, "k": "a"}

    refused = await control(client, "enqueue", params={"x": 4.0, "k": "a"})

    assert re.search(r'has ended \(finished\).*action="extend"', text(refused))


@pytest.mark.anyio
async def test_no_more_candidates_are_taken_than_there_are_trials_left(workspace: Workspace, client: Client) -> None:
    start(workspace, n_trials=2)
    await done(client, "enqueue", params={"x": 1.0, "k": "a"})
    await done(client, "enqueue", params={"x": 2.0, "k": "a"})

    refused = await control(client, "enqueue", params={"x": 3.0, "k": "a"})

    assert re.search(r"All 2 trials of study 'study' have begun or wait.*n_trials=12", text(refused))


@pytest.mark.anyio
async def test_what_was_tried_or_waits_is_not_tried_again_unless_forced(workspace: Workspace, client: Client) -> None:
    start(workspace, n_trials=2, search_space={"x": {"low": 1e-4, "high": 1.0, "log": True}, "k": ["a", "b"]})
    await done(client, "enqueue", params={"x": 0.01, "k": "a"})
    waiting = await control(client, "enqueue", params={"x": 0.0101, "k": "a"})
    assert re.search("A candidate that waits has nearly the same parameters.*force=true", text(waiting))
    run_inline(workspace)
    workspace.studies.control("study", "extend", "tester", n_trials=9)

    again = await control(client, "enqueue", params={"x": 0.01, "k": "a"})
    near = await control(client, "enqueue", params={"x": 0.0109, "k": "a"})  # 0.9 % of four decades

    assert "Trial 0 (value 0.9801) has the same parameters" in text(again)
    assert "Trial 0 (value 0.9801) has nearly the same parameters" in text(near)
    for new in ({"x": 0.011, "k": "a"}, {"x": 0.01, "k": "b"}):  # 1.03 % away, and another choice
        assert not (await control(client, "enqueue", params=new)).is_error
    forced = await done(client, "enqueue", params={"x": 0.01, "k": "a"}, force=True)
    assert forced["n_waiting"] == 3


@pytest.mark.anyio
async def test_conditional_parameters_of_a_candidate_are_honoured(workspace: Workspace, client: Client) -> None:
    start(workspace, objective=f"{HERE}:either", search_space=TREE, n_trials=2)
    both = await control(client, "enqueue", params={"model": "svc", "svc.C": 1, "knn.k": 3})
    none = await control(client, "enqueue", params={"model": "knn"})
    wrong = await control(client, "enqueue", params={"model": "knm", "knn.k": 3})

    assert "knn.k exists only when model is knn" in text(both)
    assert "knn.k is missing; it is int 1..30" in text(none)
    assert "model is knm, but is one of ['svc', 'knn'] (nearest: knn). Give" in text(wrong)
    await done(client, "enqueue", params={"model": "knn", "knn.k": 3.0})
    await done(client, "enqueue", params={"model": "svc", "svc.C": 3})
    run_inline(workspace)
    assert params_of(workspace) == [{"model": "knn", "knn.k": 3}, {"model": "svc", "svc.C": 3.0}]


@pytest.mark.anyio
async def test_a_grid_takes_no_candidates_and_keeps_its_points(workspace: Workspace, client: Client) -> None:
    start(workspace, sampler="grid", search_space={"x": [1.0, 2.0], "k": ["a", "b"]})

    for action, parameters in (
        ("enqueue", {"params": {"x": 1.0, "k": "a"}}), ("narrow", {"search_space": {"x": [1.0]}})
    ):  # fmt: skip
        assert "This study runs a grid" in text(await control(client, action, **parameters))


@pytest.mark.anyio
async def test_trials_come_from_a_narrowed_space_and_say_so_also_after_a_restart(
    workspace: Workspace, client: Client
) -> None:
    ran(workspace, n_trials=8, sampler="tpe", seed=3)
    narrowed = await done(client, "narrow", search_space={"x": {"low": -1}, "k": ["a"]})
    assert "version 2" in narrowed["note"]
    assert "k: one of ['a', 'b'] -> one of ['a']; x: float -5..5 -> float -1..5." in narrowed["note"]
    workspace.studies.control("study", "resume", "tester")
    run_inline(workspace)
    workspace.studies.control("study", "extend", "tester", n_trials=24)
    widened = await done(client, "widen", search_space={"k": ["a", "b", "c"], "x": {"high": 8.0}})
    assert widened["space_version"] == 3
    run_inline(workspace)

    tried = params_of(workspace)
    assert all(-1 <= p["x"] <= 5 and p["k"] == "a" for p in tried[8:18])
    assert all(-1 <= p["x"] <= 8 for p in tried[18:])
    assert {p["k"] for p in tried[:8]} == {"a", "b"}
    known = optuna_study(workspace).trials
    assert [t.params for t in known] == tried
    assert [t.distributions["x"].low for t in known[7:9]] == [-5.0, -1.0]
    assert {t.distributions["k"].choices for t in known} == {("a", "b", "c")}
    with workspace.store.read() as connection:
        found = connection.execute(select(spaces.c.version, spaces.c.owner).order_by(spaces.c.version)).all()
        versions = connection.scalars(select(trials.c.space_version).order_by(trials.c.number)).all()
    assert found == [(1, "tester"), (2, "tester"), (3, "tester")]
    assert versions == [1] * 8 + [2] * 10 + [3] * 6


@pytest.mark.anyio
async def test_parameters_that_cannot_exist_any_more_leave_and_come_back(workspace: Workspace, client: Client) -> None:
    ran(workspace, n_trials=4, objective=f"{HERE}:either", search_space=TREE)
    await done(client, "narrow", search_space={"model": ["knn"]})
    full = workspace.studies.read.status("study", full=True).search_space or {}
    assert set(full) == {"model", "knn.k"}
    unknown = await control(client, "widen", search_space={"model": ["knn", "forest"]})
    assert "none are known for forest" in text(unknown)
    await done(client, "resume")
    run_inline(workspace)
    assert {p["model"] for p in params_of(workspace)[4:]} == {"knn"}

    workspace.studies.control("study", "extend", "tester", n_trials=40)
    await done(client, "widen", search_space={"model": ["knn", "svc"]})
    run_inline(workspace)

    later = params_of(workspace)[14:]
    assert {p["model"] for p in later} == {"knn", "svc"}
    assert all(p.keys() == {"model", f"{p['model']}.{'C' if p['model'] == 'svc' else 'k'}"} for p in later)
    assert [t.params for t in optuna_study(workspace).trials] == params_of(workspace)


@pytest.mark.anyio
@pytest.mark.parametrize("sampler", ["tpe", "cmaes", "lhs", "sobol"])
async def test_every_sampler_goes_on_in_a_changed_space(workspace: Workspace, client: Client, sampler: str) -> None:
    plane = {"x": {"low": -5.0, "high": 5.0}, "y": {"low": -5.0, "high": 5.0}}
    ran(workspace, n_trials=12, sampler=sampler, search_space=plane)
    await done(client, "narrow", search_space={"x": {"low": 0.0, "high": 1.0}})
    await done(client, "enqueue", params={"x": 0.5, "y": 4.0})
    await done(client, "resume")
    run_inline(workspace)

    later = params_of(workspace)[12:]
    assert later[0] == {"x": 0.5, "y": 4.0}
    assert len(later) == 10
    assert all(0 <= p["x"] <= 1 for p in later)
    assert [t.params for t in optuna_study(workspace).trials] == params_of(workspace)


@pytest.mark.anyio
async def test_a_candidate_takes_no_point_from_a_design(workspace: Workspace, client: Client) -> None:
    line = {"x": {"low": 0.0, "high": 1.0}}
    start(workspace, n_trials=5, sampler={"type": "lhs", "points": 4}, search_space=line)
    await done(client, "enqueue", params={"x": 0.3})
    run_inline(workspace)

    designed = [p["x"] for p in params_of(workspace)[1:]]
    assert sorted(int(4 * x) for x in designed) == [0, 1, 2, 3]


@pytest.mark.anyio
async def test_parallel_is_written_for_the_runner(workspace: Workspace, client: Client) -> None:
    start(workspace)
    await done(client, "set_parallel", parallel=2)
    await done(client, "set_parallel", parallel=6, force=True)

    with workspace.store.read() as connection:
        assert connection.scalar(select(studies.c.parallel)) == 6
    ordered = [event for event in workspace.studies.read.events("study").events if event.kind == "ordered"]
    assert [event.actor for event in ordered] == ["tester"] * 2
    assert ordered[0].detail == {"action": "set_parallel", "parallel": 6, "force": True}
    run_inline(workspace)
    assert "has ended (finished)" in text(await control(client, "set_parallel", parallel=1))


@pytest.mark.anyio
async def test_only_the_owner_and_admins_control_a_study(workspace: Workspace, client: Client) -> None:
    workspace.studies.start(callable_spec(), "ann")
    before = stored(workspace)

    refused = await control(client, "stop")
    resumed = await client.call_tool("start_automl_study", {"study_name": "study", "n_trials": 99})

    for result in (refused, resumed):
        assert re.search("belongs to ann; tester may read it only.*Ask ann", text(result)), text(result)
    assert stored(workspace) == before
    async with connected(workspace, Principal("root", Role.ADMIN)) as admin:
        assert (await done(admin, "stop"))["study_name"] == "study"
