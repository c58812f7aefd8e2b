import importlib.util
from pathlib import Path

import anyio
import pytest
from mcp import Client

import mcp_server
from mcp_server.server import build_server
from mcp_server.settings import Settings
from mcp_server.workspace import Workspace

ROOT = Path(__file__).resolve().parents[2]
SAMPLES = Path(mcp_server.__file__).parent / "samples"


@pytest.mark.process
def test_the_example_tunes_a_model(tmp_path):
    spec = importlib.util.spec_from_file_location("study", ROOT / "docs/examples/study.py")
    example = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(example)

    async def run():
        with Workspace(Settings(workspace=tmp_path, data_roots=(SAMPLES,))) as workspace:
            async with Client(build_server(workspace)) as client:
                return await example.tune(client, "titanic.csv", "survived", 2)

    best = anyio.run(run)
    assert best["training"]["data"] == "titanic.csv"
    assert best["trial"] in {0, 1}
