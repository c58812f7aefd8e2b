"""The whole job through a client, with real processes, in both protocol eras: every tool is used once."""

from collections.abc import AsyncIterator
from pathlib import Path

import anyio
import pytest
from mcp import Client, StdioServerParameters
from mcp.types import CallToolResult

from mcp_server.server import build_server
from mcp_server.settings import Settings
from mcp_server.tools import TOOLSETS
from mcp_server.workspace import Workspace
from tests.conftest import SAMPLES

pytestmark = [pytest.mark.anyio, pytest.mark.process]

CALLS = {"data": "titanic.csv", "target": "survived", "drop": ["boat", "body"], "estimator": "logistic_regression"}


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


class Assistant:
    """Calls tools and keeps count, as an assistant's host would."""

    def __init__(self, client: Client) -> None:
        self.client = client
        self.used: set[str] = set()

    async def __call__(self, tool: str, **arguments: object) -> dict[str, object]:
        result: CallToolResult = await self.client.call_tool(tool, arguments)
        assert not result.is_error, result.content
        assert result.structured_content is not None
        self.used.add(tool)
        return result.structured_content

    async def finished(self, name: str) -> dict[str, object]:
        """The study's status when it has ended and all of it is in MLflow."""
        with anyio.fail_after(90):
            while True:
                status = await self("get_automl_study_status", study_name=name, wait_s=5)
                if status["state"] == "finished" and status["tracking"]["synced"]:  # type: ignore[index]
                    return status
                await anyio.sleep(0.05)


@pytest.fixture(params=["auto", "legacy"])
async def assistant(request: pytest.FixtureRequest, settings: Settings, anyio_backend: str) -> AsyncIterator[Assistant]:
    everything = {"toolsets": tuple(toolset.name for toolset in TOOLSETS), "role": "admin"}
    offered = settings.model_copy(update=everything)
    settings.workspace.mkdir()
    (settings.workspace / "costs.yaml").write_text("{usd_per_cpu_hour: 1, approve_above_usd: 0}", encoding="utf-8")
    with Workspace(offered) as workspace:
        workspace.keep_alive()
        async with Client(build_server(workspace), mode=request.param) as client:
            yield Assistant(client)


async def test_an_assistant_tunes_a_model_from_a_csv(assistant: Assistant) -> None:
    nothing = await assistant("list_automl_studies")
    assert (nothing["total"], nothing["message"]) == (
        0,
        "No study yet. Start one with inspect_dataset, then plan_automl_study.",
    )

    profile = await assistant("inspect_dataset", data="titanic.csv", target="survived")
    assert {"boat", "body"} <= set(profile["suggested_drop"])  # type: ignore[call-overload]

    plan = await assistant("plan_automl_study", **CALLS, n_trials=4)
    started = await assistant("start_automl_study", study_name="titanic", plan_id=plan["plan_id"])
    assert started["state"] == "waiting for approval"
    approved = await assistant("approve", study_name="titanic", limit_usd=5.0)
    assert approved["state"] in {"queued", "running"}

    queue = await assistant("get_queue_status")
    assert queue["slots"] == 2
    assert queue["users"]["rows"]

    status = await assistant.finished("titanic")
    assert (status["n_trials"], status["n_running"], status["n_failed"]) == (4, 0, 0)
    assert status["baseline"]["value"] > 0.7  # type: ignore[index]

    best = await assistant("get_automl_best_params", study_name="titanic")
    assert best["value"] == status["best_value"]
    assert best["training"]["estimator"] == "logistic_regression"  # type: ignore[index]
    assert len(best["folds"]) == 5  # type: ignore[arg-type]

    trials = await assistant("compare_automl_trials", study_name="titanic", top_k=2)
    assert trials["trials"]["rows"][0][0] == best["trial"]  # type: ignore[index]

    listed = await assistant("list_automl_studies")
    assert listed["total"] == 1

    runs = await assistant("search_runs", study_name="titanic", columns=["run_name", "status"])
    named = {row[runs["columns"].index("run_name")] for row in runs["rows"]}  # type: ignore[attr-defined, union-attr]
    assert {f"trial_{i}" for i in range(4)} <= named

    first = (await assistant("search_runs", study_name="titanic", limit=1))["rows"][0][0]  # type: ignore[index]
    run = await assistant("get_run", run_id=first)
    assert run["run_id"] == first

    tested = await assistant("control_automl_study", study_name="titanic", action="final_test", wait_s=45)
    assert tested["final_test"]["reads"] == 1  # type: ignore[index]
    assert 0.7 < tested["final_test"]["low"] < tested["final_test"]["high"] < 1.0  # type: ignore[index]

    await assistant("server_status")
    assert (await assistant("get_budget_report", by="study"))["groups"]["rows"][0][0] == "titanic"  # type: ignore[index]

    await assistant("delete_automl_study", study_name="titanic", confirm="titanic")
    assert (await assistant("list_automl_studies"))["total"] == 0
    assert assistant.used == {tool.name for toolset in TOOLSETS for tool in toolset}


async def test_pruned_trials_are_counted_alike_in_status_store_and_mlflow(
    settings: Settings, anyio_backend: str
) -> None:
    with Workspace(settings) as workspace:
        async with Client(build_server(workspace)) as client:
            assistant = Assistant(client)
            eager = {"type": "median", "n_startup_trials": 1, "n_warmup_steps": 0}
            start = {**CALLS, "estimator": "knn", "n_trials": 10, "pruner": eager}
            await assistant("start_automl_study", study_name="pruned", **start)
            status = await assistant.finished("pruned")
            runs = await assistant("search_runs", study_name="pruned", columns=["status"], limit=50)
        stored = [trial.state for trial in workspace.studies.read.trials("pruned")]

    in_mlflow = [row[runs["columns"].index("status")] for row in runs["rows"]]  # type: ignore[attr-defined, union-attr]
    assert stored.count("pruned") > 0
    assert status["n_pruned"] == stored.count("pruned") == in_mlflow.count("KILLED")
    assert status["n_complete"] == stored.count("complete") == in_mlflow.count("FINISHED")


async def test_a_real_server_process_answers_over_stdio(tmp_path: Path, anyio_backend: str) -> None:
    import sys

    command = ["-m", "mcp_server", "serve", "--workspace", str(tmp_path / "workspace"), "--data-root", str(SAMPLES)]
    server = StdioServerParameters(command=sys.executable, args=command)
    async with Client(server) as client:
        assistant = Assistant(client)
        await assistant("start_automl_study", study_name="stdio", **CALLS, n_trials=3)
    async with Client(server) as client:  # the first server is gone; the study is not
        status = await Assistant(client).finished("stdio")

    assert status["n_complete"] + status["n_pruned"] == 3  # type: ignore[operator]


async def test_two_clients_of_one_workspace_see_the_same_studies(settings: Settings, anyio_backend: str) -> None:
    with Workspace(settings) as one, Workspace(settings) as two:
        async with Client(build_server(one)) as alice, Client(build_server(two)) as bob:
            await Assistant(alice)("start_automl_study", study_name="shared", **CALLS, n_trials=2)
            status = await Assistant(bob).finished("shared")
            mine = await Assistant(alice)("get_automl_study_status", study_name="shared")

    assert status["best_value"] == mine["best_value"]
    assert status["best_params"] == mine["best_params"]
