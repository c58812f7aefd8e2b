"""How functions become tools, and what clients are told about them."""

import json

import pytest
from pydantic import BaseModel

from mcp_server.access import Permission, Role
from mcp_server.errors import InvalidRequestError
from mcp_server.server import build_server
from mcp_server.settings import Settings
from mcp_server.tools import TOOLSETS, Call, Toolset
from mcp_server.tools._boundary import Boundary
from mcp_server.tools._toolset import READ_ONLY
from mcp_server.workspace import Workspace
from tests.tools.toolbox import ERAS, Echo, ask, names, serving, toolbox

OFFERED = [(toolset, tool) for toolset in (*TOOLSETS, toolbox) for tool in toolset]
SHIPPED = [tool for toolset in TOOLSETS for tool in toolset]


def listed(name):
    return next(tool.listed() for tool in toolbox if tool.name == name)


def test_a_tool_without_a_permission_cannot_be_made():
    toolset = Toolset("t", default=True)

    with pytest.raises(TypeError):
        toolset.tool()
    with pytest.raises(TypeError, match="is not a Permission"):
        toolset.tool("read")(lambda call: {})
    assert toolset.tools == []


def test_a_function_that_is_no_function_of_a_call_cannot_be_a_tool():
    def undocumented(call: Call) -> Echo: ...

    def without_call(a: int) -> Echo:
        """Documented."""

    toolset = Toolset("t", default=True)
    for function in (undocumented, without_call):
        with pytest.raises(TypeError):
            toolset.tool(Permission.READ)(function)
    assert toolset.tools == []


def test_a_tool_whose_model_takes_unknown_fields_cannot_be_served(workspace):
    class Loose(BaseModel):
        a: int = 1

    class Outer(BaseModel, extra="forbid"):
        inner: Loose = Loose()

    toolset = Toolset("t", default=True)

    @toolset.tool(Permission.READ)
    def loose(call: Call, spec: Outer) -> Echo:
        """Documented."""

    with pytest.raises(TypeError, match="Loose must set extra='forbid'"):
        build_server(workspace, toolsets=(toolset,))


def test_a_server_takes_nothing_but_tools_with_names_of_their_own(workspace):
    tool = toolbox.tools[0]

    with pytest.raises(TypeError):
        Boundary(workspace, [lambda call: {}], lambda: None)
    with pytest.raises(TypeError):
        Boundary(workspace, [tool, tool], lambda: None)


def test_the_description_is_the_docstring_without_its_sections():
    assert listed("take").description == "Give back what arrived.\nA second paragraph."


def test_the_fields_of_a_lone_model_are_the_arguments():
    schema = listed("take").input_schema

    assert schema["type"] == "object"
    assert schema["required"] == ["study_name"]
    assert schema["additionalProperties"] is False
    assert schema["properties"]["n_trials"] == {
        "type": "integer",
        "default": 20,
        "minimum": 1,
        "maximum": 100_000,
        "description": "Total.",
    }


def test_schemas_hold_no_titles_and_no_null_that_means_omitted():
    schema = listed("take").input_schema

    assert '"title"' not in json.dumps(schema)
    assert schema["properties"]["note"] == {"type": "string", "description": "Free text."}
    assert schema["properties"]["options"]["properties"]["folds"]["default"] == 5
    assert "$defs" not in schema


def test_hints_follow_from_the_permission():
    hints = {name: listed(name).annotations for name in ("add", "plan", "start", "delete")}

    assert [hints[name].read_only_hint for name in hints] == [True, True, False, False]
    assert [hints[name].destructive_hint for name in hints] == [False, False, False, True]
    assert [hints[name].idempotent_hint for name in hints] == [True, True, True, False]
    assert {hint.open_world_hint for hint in hints.values()} == {False}
    assert hints["add"].title == listed("add").title == "Add two numbers"
    assert listed("delete").title == "Delete"


def test_no_tool_publishes_an_output_schema_because_every_conversation_would_pay_for_it():
    assert [tool.name for tool in SHIPPED if tool.listed().output_schema is not None] == []


@pytest.mark.parametrize("era", ERAS)
@pytest.mark.parametrize("role", Role)
@pytest.mark.parametrize("read_only", [False, True])
def test_a_caller_sees_exactly_the_tools_its_role_may_use(tmp_path, era, role, read_only):
    every = (*TOOLSETS, toolbox)
    settings = Settings(workspace=tmp_path, read_only=read_only, toolsets=tuple(t.name for t in every))
    with Workspace(settings, launch=lambda *_: None) as workspace:
        seen = names(serving(workspace, role, every), era)

    expected = [t.name for _, t in OFFERED if t.permission in role.permissions]
    if read_only:
        expected = [t.name for _, t in OFFERED if t.name in expected and t.permission in READ_ONLY]
    assert seen == expected
    assert seen


@pytest.mark.parametrize("role", Role)
@pytest.mark.parametrize("tool", SHIPPED, ids=lambda tool: tool.name)
def test_a_role_can_call_a_tool_exactly_when_it_has_the_permission(tmp_path, role, tool):
    settings = Settings(workspace=tmp_path, toolsets=tuple(t.name for t in TOOLSETS))
    with Workspace(settings, launch=lambda *_: None) as workspace:
        # An argument no tool has: an allowed call gets as far as being refused for it, and nothing is done.
        result = ask(serving(workspace, role, TOOLSETS), tool.name, {"no_such_argument": 1})

    allowed = tool.permission in role.permissions
    assert result.meta["error"]["code"] == ("invalid_arguments" if allowed else "permission_denied")


def test_the_settings_choose_toolsets_and_unknown_ones_are_named(tmp_path):
    def server(*names):
        return build_server(Workspace(Settings(workspace=tmp_path, toolsets=names, role="admin")))

    assert names(server("team")) == ["server_status", "approve", "get_budget_report"]
    assert "server_status" not in names(server())
    assert names(server("team", "tuning")) == names(server("tuning", "team"))
    with pytest.raises(
        InvalidRequestError, match=r"There is no toolset 'tuners'\. Known toolsets: tuning, training, tracking, team"
    ):
        server("tuners")
