"""What holds for all of the code; which package may import which is checked by import-linter."""

import ast
import json
import re
import subprocess
import sys
from pathlib import Path

import anyio
import pytest
from mcp import Client

from mcp_server.access import Permission
from mcp_server.server import build_server
from mcp_server.settings import Settings
from mcp_server.tools import TOOLSETS
from mcp_server.workspace import Workspace

ROOT = Path(__file__).resolve().parents[1]
MODULES = sorted((ROOT / "mcp_server").rglob("*.py"))
HEAVY = {
    "mlflow",
    "optuna",
    "sklearn",
    "skopt",
    "torch",
    "pandas",
    "matplotlib",
    "pyarrow",
    "scipy",
    "numpy",
    "sqlalchemy",
}
LINE_LIMIT = 400
BLIND_EXCEPT_LIMIT = 3
TOOL_LIMIT = 24
PRINTS_ON_PURPOSE = "mcp_server/testing/objectives.py"  # an objective of the executors' contract
LIST_BYTE_LIMIT = 24_000


def relative(path):
    return str(path.relative_to(ROOT))


def tree(path):
    return ast.parse(path.read_text(encoding="utf-8"))


def test_modules_are_short_enough_to_read():
    sizes = {relative(path): len(path.read_text(encoding="utf-8").splitlines()) for path in MODULES}

    assert {path: size for path, size in sizes.items() if size > LINE_LIMIT} == {}


def test_nothing_prints_because_stdout_is_the_protocol():
    found = [
        f"{relative(path)}:{node.lineno}"
        for path in MODULES
        for node in ast.walk(tree(path))
        if isinstance(node, ast.Call)
        and isinstance(node.func, ast.Name)
        and node.func.id == "print"
        and relative(path) != PRINTS_ON_PURPOSE
    ]

    assert found == []


def test_nothing_is_unpickled_evaluated_or_given_to_a_shell():
    banned_calls, banned_modules = {"eval", "exec"}, {"pickle", "cloudpickle", "dill", "marshal", "shelve"}
    found = []
    for path in MODULES:
        for node in ast.walk(tree(path)):
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id in banned_calls:
                found.append(f"{relative(path)}:{node.lineno}")
            if isinstance(node, ast.Call) and any(k.arg == "shell" for k in node.keywords):
                found.append(f"{relative(path)}:{node.lineno}")
            if isinstance(node, ast.Import | ast.ImportFrom) and imported(node) & banned_modules:
                found.append(f"{relative(path)}:{node.lineno}")

    assert found == []


def imported(node):
    names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else [node.module or ""]
    return {name.split(".")[0] for name in names}


def test_no_function_rebinds_a_global():
    found = [relative(path) for path in MODULES if any(isinstance(n, ast.Global) for n in ast.walk(tree(path)))]

    assert found == []


def test_few_places_catch_everything():
    def blind(handler):
        return handler.type is None or (
            isinstance(handler.type, ast.Name) and handler.type.id in {"Exception", "BaseException"}
        )

    found = [
        f"{relative(path)}:{node.lineno}"
        for path in MODULES
        for node in ast.walk(tree(path))
        if isinstance(node, ast.ExceptHandler) and blind(node)
    ]

    assert len(found) <= BLIND_EXCEPT_LIMIT, found


def loaded_after(code):
    """Top-level packages that are loaded in a fresh process after `code`."""
    script = f"{code}\nimport json, sys\nprint(json.dumps(sorted({{m.split('.')[0] for m in sys.modules}})))"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True, timeout=60)
    return set(json.loads(done.stdout.splitlines()[-1]))


def test_a_server_loads_nothing_heavy_before_it_answers():
    code = (
        "import tempfile, pathlib\n"
        "from mcp_server.server import build_server\n"
        "from mcp_server.settings import Settings\n"
        "from mcp_server.workspace import Workspace\n"
        "import mcp_server.transports, mcp_server.cli\n"
        "build_server(Workspace(Settings(workspace=pathlib.Path(tempfile.mkdtemp()))))"
    )

    assert loaded_after(code) & HEAVY == set()


def test_the_check_for_heavy_packages_would_see_one():
    assert loaded_after("import numpy") & HEAVY == {"numpy"}


@pytest.fixture(scope="module")
def listed(tmp_path_factory):
    """The default set of tools as an administrator's client gets it."""
    settings = Settings(workspace=tmp_path_factory.mktemp("workspace"), role="admin")

    async def ask():
        with Workspace(settings) as workspace:
            async with Client(build_server(workspace)) as client:
                return (await client.list_tools()).tools

    return anyio.run(ask)


def test_every_tool_declares_one_permission_and_has_a_name_of_its_own():
    tools = [tool for toolset in TOOLSETS for tool in toolset.tools]

    assert tools
    assert all(isinstance(tool.permission, Permission) for tool in tools)
    assert len({tool.name for tool in tools}) == len(tools)


def test_every_tool_fits_the_limits_of_the_hosts(listed):
    for tool in listed:
        assert re.fullmatch(r"[a-z][a-z_]{2,31}", tool.name)
        assert 20 <= len(tool.description) < 2_000, tool.name
        assert tool.title, tool.name
        assert tool.annotations.read_only_hint is not None, tool.name
        assert tool.annotations.open_world_hint is False, tool.name


def test_every_argument_is_described_and_no_other_is_accepted(listed):
    for tool in listed:
        assert tool.input_schema["additionalProperties"] is False, tool.name
        undescribed = [name for name, entry in tool.input_schema["properties"].items() if "description" not in entry]
        assert undescribed == [], tool.name


def test_no_schema_begins_with_a_combinator_because_some_hosts_then_drop_all_tools(listed):
    for tool in listed:
        assert tool.input_schema["type"] == "object", tool.name
        assert {"anyOf", "oneOf", "allOf", "not", "if"} & set(tool.input_schema) == set(), tool.name


def test_the_list_of_tools_is_small_enough_to_be_read_in_every_conversation(listed):
    dumped = [tool.model_dump(mode="json", by_alias=True, exclude_none=True) for tool in listed]

    assert len(listed) <= TOOL_LIMIT
    assert len(json.dumps(dumped, separators=(",", ":"), ensure_ascii=False).encode()) <= LIST_BYTE_LIMIT
