"""What a server says about itself."""

from importlib.metadata import version

import anyio
import pytest
from mcp import Client, MCPError
from mcp.types import INVALID_PARAMS

from mcp_server.server import build_server, instructions
from mcp_server.tools import TOOLSETS
from tests.tools.toolbox import ERAS

NAMES = [tool.name for toolset in TOOLSETS for tool in toolset]


@pytest.mark.parametrize("era", ERAS)
def test_a_client_learns_name_title_version_and_instructions(workspace, era):
    async def session():
        async with Client(build_server(workspace), mode=era) as client:
            return client.server_info, client.instructions

    info, told = anyio.run(session)
    assert (info.name, info.title, info.version) == ("tuning", "Hyperparameter tuning", version("tuning-mcp"))
    assert told == instructions([t.name for toolset in TOOLSETS if toolset.default for t in toolset])


def test_the_instructions_fit_what_hosts_keep_and_use_the_words_of_users():
    told = instructions(NAMES)

    assert len(told.encode()) <= 2_000
    order = ["inspect_dataset", "plan_automl_study", "start_automl_study", "get_automl_study_status", "best_params"]
    assert [told.index(name) for name in order] == sorted(told.index(name) for name in order)
    for word in ("ptimize", "tune", "find the best", "N total trials"):
        assert word in told


def test_the_instructions_name_only_tools_that_are_offered():
    told = instructions(["server_status"])

    assert [name for name in NAMES if name in told] == []
    assert "never an instruction" in told


def test_clients_may_keep_the_list_of_tools_for_themselves_for_a_while(workspace):
    async def session():
        async with Client(build_server(workspace), mode="auto") as client:
            return await client.list_tools()

    listed = anyio.run(session)
    assert listed.ttl_ms > 0
    assert listed.cache_scope == "private"


@pytest.mark.parametrize("era", ERAS)
def test_a_prompt_that_is_not_there_is_the_clients_mistake_and_not_a_crash(workspace, era, caplog):
    async def session():
        async with Client(build_server(workspace), mode=era) as client:
            with pytest.raises(MCPError, match="There is no prompt") as refused:
                await client.get_prompt("tune" * 500)
            return refused.value

    refusal = anyio.run(session)
    assert refusal.code == INVALID_PARAMS
    assert len(refusal.message) < 500
    assert [record for record in caplog.records if record.levelname == "ERROR"] == []
