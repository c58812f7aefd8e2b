"""BAD_INPUTS rows 18 to 57: names, search spaces and budgets, as a client sends them. Nothing is created."""

import re
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import anyio
import pytest
from mcp import Client
from mcp.types import CallToolResult

from mcp_server.access import Principal, Role
from mcp_server.server import build_server
from mcp_server.settings import Settings
from mcp_server.workspace import Workspace

GOOD = {"data": "sklearn:iris", "target": "target", "n_trials": 2, "estimator": "knn"}
X = {"low": 1, "high": 30}


def named(name: str) -> dict[str, object]:
    return {**GOOD, "study_name": name}


def spaced(**entries: object) -> dict[str, object]:
    return {**GOOD, "study_name": "bad", "search_space": entries}


def changed(**fields: object) -> dict[str, object]:
    return {**GOOD, "study_name": "bad", **fields}


REFUSED: list[tuple[int, dict[str, object], str]] = [
    (19, named(""), "at least one visible character"),
    (19, named("   "), "at least one visible character"),
    (20, named("x" * 121), "120 characters, this one has 121"),
    (21, named("'; DROP TABLE trials;--"), "must not contain"),
    (22, named("<script>alert(1)</script>"), "must not contain"),
    (23, named("../../x"), "must not contain"),
    (23, named("a/b"), "must not contain"),
    (23, named("C:\\x"), "must not contain"),
    (24, named("a\0b"), r"must not contain .*U\+0000"),
    (24, named("a\nb"), r"must not contain .*U\+000A"),
    (24, named("a\tb"), r"must not contain .*U\+0009"),
    (24, named("a\x1b[31mb"), r"must not contain .*U\+001B"),
    (25, named("a\u202eb"), r"must not contain .*U\+202E"),
    (25, named("a\u200bb"), r"must not contain .*U\+200B"),
    (25, named("a\U000e0041b"), r"must not contain .*U\+E0041"),
    (28, named("CON"), "reserved"),
    (28, named("nul"), "reserved"),
    (28, named("a."), "end with a dot"),
    (29, named("taken"), r"exists \(queued, 2 trials in total\).*n_trials > 2"),
    (30, named("TAKEN"), "'taken' only by case"),
    (31, named("-rf"), "must not begin"),
    (31, named("=1+1"), "must not begin"),
    (31, named("+a"), "must not begin"),
    (31, named("@a"), "must not begin"),
    (33, spaced(n_neighbors={"low": 2, "high": 1}), "n_neighbors: low 2 > high 1"),
    (35, spaced(n_neighbors={"low": 1, "high": "NaN", "type": "float"}), "finite"),
    (36, spaced(n_neighbors={"low": 0.0, "high": 1, "log": True}), "log needs low > 0, got 0; use e.g. 1e-6"),
    (37, spaced(n_neighbors={"low": 1, "high": 9, "step": 0}), "step must be > 0"),
    (37, spaced(n_neighbors={"low": 1, "high": 9, "step": -1}), "step must be > 0"),
    (38, spaced(n_neighbors={"low": 1, "high": 3, "step": 9}), "step 9 is larger than the range 2"),
    (39, spaced(n_neighbors={"type": "int", "low": 0.5, "high": 3.7}), "integer.*0.5"),
    (41, spaced(weights=[]), "this one has 0"),
    (42, spaced(weights=["uniform", "uniform"]), "listed twice"),
    (42, spaced(p=[1, True]), "listed twice"),
    (42, spaced(p=[1, 1.0]), "listed twice"),
    (43, spaced(weights=[["uniform"], "distance"]), "a choice must be"),
    (43, spaced(weights=[{"a": 1}, "distance"]), "a choice must be"),
    (44, spaced(n_neighbors=list(range(1001))), "choices must have 1 to 1,000 values, this one has 1,001"),
    (45, spaced(n_neighbors={"low": 0, "high": 10**18}), "9007199254740992"),
    (46, {**spaced(n_neighbors={"low": 1, "high": 10**9}), "sampler": "grid"}, r"1,000,000,000 points.*random or tpe"),
    (47, spaced(**{f"p{i}": X for i in range(101)}), "100 parameters, this one has 101"),
    (48, spaced(a={**X, "when": {"b": [1]}}, b={**X, "when": {"a": [1]}}), "cycle: "),
    (49, spaced(weights=["uniform"], p={**X, "when": {"weigths": ["uniform"]}}), "did you mean 'weights'"),
    (50, spaced(n_neighbours=X), r"no parameter 'n_neighbours'.*[Dd]id you mean n_neighbors"),
    (53, {**spaced(weights=["uniform", "distance"]), "sampler": "cmaes"}, r"0 of them.*tpe"),
    (56, changed(seed=-1), "0"),
    (56, changed(seed=2**33), "4,?294,?967,?295"),
    (57, changed(parallel=0), "1"),
    (57, changed(parallel=-5), "1"),
    (57, changed(parallel=10_000), r"on 2 cores the limit is 8"),
    (57, changed(parallel=3), r"there are 2 cores.*force=true"),
]
ACCEPTED: list[tuple[int, dict[str, object], str]] = [
    (26, named("été 漢字 🎯"), ""),
    (32, named("{{7*7}}"), ""),
    (32, named("%s ${HOME} $(id)"), ""),
    (34, {**named("constant"), "search_space": {"n_neighbors": {"low": 5, "high": 5}, "p": [1, 2]}}, "is constant"),
    (40, {**named("text bounds"), "search_space": {"n_neighbors": {"type": "int", "low": "1", "high": "9"}}}, ""),
]
ELSEWHERE = {
    18: "test_the_same_idempotency_key_gives_the_same_study",
    27: "test_composed_and_decomposed_names_are_one_study",
    51: "test_a_resume_with_a_changed_space_is_refused_with_the_differences",
}
LATER = {
    52: "warm starts come with the search issue",
    54: "several objectives come with the search issue",
    55: "several objectives come with the search issue",
}


@pytest.fixture(scope="module")
def anyio_backend() -> str:
    return "asyncio"


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Workspace]:
    folder = tmp_path_factory.mktemp("studies")
    with Workspace(Settings(workspace=Path(folder), parallel=2), launch=lambda *_: None) as workspace:
        yield workspace


@pytest.fixture(params=["auto", "legacy"])
async def client(shared: Workspace, request: pytest.FixtureRequest, anyio_backend: str) -> AsyncIterator[Client]:
    server = build_server(shared, caller=lambda: Principal("tester", Role.OPERATOR))
    async with Client(server, mode=request.param) as connected:
        first = await connected.call_tool("start_automl_study", named("taken"))
        assert not first.is_error or "exists" in text(first), text(first)
        yield connected


def text(result: CallToolResult) -> str:
    return " ".join(getattr(block, "text", "") for block in result.content)


def count(shared: Workspace) -> int:
    return shared.studies.read.page().total


def row_id(value: object) -> str:
    return str(value) if isinstance(value, int) else ""


def test_every_row_is_covered_or_named() -> None:
    covered = {row for row, *_ in [*REFUSED, *ACCEPTED]} | set(ELSEWHERE) | set(LATER)

    assert covered == set(range(18, 58))
    assert all(name in globals() for name in ELSEWHERE.values())


@pytest.mark.anyio
@pytest.mark.parametrize(("row", "arguments", "expected"), REFUSED, ids=row_id)
async def test_a_bad_study_is_refused_in_a_sentence_and_nothing_is_created(
    client: Client, shared: Workspace, row: int, arguments: dict[str, object], expected: str
) -> None:
    before = count(shared)

    result = await client.call_tool("start_automl_study", arguments)

    assert result.is_error
    assert re.search(expected, text(result), re.DOTALL), text(result)
    assert "Traceback" not in text(result)
    assert "reference" not in text(result), "a masked crash is a bug"
    assert len(text(result)) < 700
    assert count(shared) == before


@pytest.mark.anyio
@pytest.mark.parametrize(("row", "arguments", "expected"), ACCEPTED, ids=row_id)
async def test_an_unusual_but_good_study_is_taken_as_it_is(
    client: Client, shared: Workspace, row: int, arguments: dict[str, object], expected: str
) -> None:
    result = await client.call_tool("start_automl_study", {**arguments, "idempotency_key": str(arguments)[:200]})

    assert not result.is_error, text(result)
    assert result.structured_content is not None
    assert result.structured_content["study_name"] == arguments["study_name"]
    assert expected in text(result)


@pytest.mark.anyio
async def test_the_same_idempotency_key_gives_the_same_study(client: Client, shared: Workspace) -> None:
    request = {**named("once"), "idempotency_key": "k-1"}
    results = [await client.call_tool("start_automl_study", request) for _ in range(2)]
    another_name = await client.call_tool("start_automl_study", {**named("twice"), "idempotency_key": "k-1"})

    assert [(r.structured_content or {})["study_name"] for r in [*results, another_name]] == ["once"] * 3
    assert "twice" not in [row[0] for row in shared.studies.read.page(100).studies.rows]


@pytest.mark.anyio
async def test_waiting_for_a_repeated_start_waits_for_the_study_that_it_gave(client: Client) -> None:
    await client.call_tool("start_automl_study", {**named("waited"), "idempotency_key": "k-2"})

    again = await client.call_tool("start_automl_study", {**named("other"), "idempotency_key": "k-2", "wait_s": 0.01})

    assert not again.is_error, text(again)
    assert (again.structured_content or {})["study_name"] == "waited"


@pytest.mark.anyio
async def test_parallel_calls_with_one_key_start_one_study(client: Client, shared: Workspace) -> None:
    before = count(shared)
    key = f"race-{before}"
    async with anyio.create_task_group() as group:
        for _ in range(8):
            group.start_soon(client.call_tool, "start_automl_study", {**named(key), "idempotency_key": key})

    assert count(shared) == before + 1


@pytest.mark.anyio
async def test_composed_and_decomposed_names_are_one_study(client: Client, shared: Workspace) -> None:
    composed, decomposed = "caf\u00e9", "cafe\u0301"
    await client.call_tool("start_automl_study", named(composed))
    before = count(shared)

    again = await client.call_tool("start_automl_study", named(decomposed))
    status = await client.call_tool("get_automl_study_status", {"study_name": decomposed})

    assert again.is_error
    assert "exists" in text(again)
    assert (status.structured_content or {})["study_name"] == composed
    assert count(shared) == before


@pytest.mark.anyio
async def test_a_resume_with_a_changed_space_is_refused_with_the_differences(client: Client) -> None:
    await client.call_tool("start_automl_study", {**named("spaced"), "search_space": {"n_neighbors": X}})

    result = await client.call_tool(
        "start_automl_study", {**named("spaced"), "n_trials": 9, "search_space": {"n_neighbors": {"low": 1, "high": 5}}}
    )

    assert result.is_error
    assert "search_space n_neighbors: int 1..30 -> int 1..5" in text(result)
    assert "choose another study_name" in text(result)
