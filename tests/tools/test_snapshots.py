"""What clients are told about each tool, so that a change of it is seen; `make snapshots` rewrites it."""

import json
import os
from pathlib import Path

import pytest

from mcp_server.tools import TOOLSETS

SNAPSHOTS = Path(__file__).parent / "snapshots"
SHIPPED = [tool for toolset in TOOLSETS for tool in toolset]


@pytest.mark.parametrize("tool", SHIPPED, ids=lambda tool: tool.name)
def test_what_clients_are_told_about_a_tool_changes_only_on_purpose(tool):
    told = tool.listed().model_dump(mode="json", by_alias=True, exclude_none=True)
    snapshot = SNAPSHOTS / f"{tool.name}.json"
    if os.environ.get("UPDATE_SNAPSHOTS"):
        SNAPSHOTS.mkdir(exist_ok=True)
        snapshot.write_text(json.dumps(told, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")

    assert snapshot.is_file(), "run `make snapshots`"
    assert json.loads(snapshot.read_text(encoding="utf-8")) == told


def test_there_is_no_snapshot_of_a_tool_that_is_gone():
    assert {path.stem for path in SNAPSHOTS.glob("*.json")} == {tool.name for tool in SHIPPED}
