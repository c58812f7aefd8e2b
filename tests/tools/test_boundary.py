"""What every call goes through, whichever tool and client it is, in both protocol eras."""

import json
import stat

import anyio
import pytest
import structlog
from mcp import Client

from mcp_server.access import Principal, Role
from mcp_server.errors import PermissionDeniedError
from mcp_server.server import build_server
from mcp_server.settings import Settings
from mcp_server.tools._results import CHARACTER_LIMIT
from mcp_server.workspace import Workspace
from tests.conftest import eventually
from tests.tools.toolbox import ERAS, SECRET, TOGETHER, ask, over, serving, text, toolbox

pytestmark = pytest.mark.parametrize("era", ERAS)


@pytest.fixture(autouse=True, scope="module")
def _threads_end():
    yield
    over.set()


def audited(workspace):
    return [json.loads(line) for line in workspace.audit.path.read_text(encoding="utf-8").splitlines()]


def counts(workspace):
    return {key: durations.count for key, durations in workspace.metrics.snapshot().items()}


def test_an_answer_is_the_same_in_compact_text_and_in_structured_content(workspace, era):
    result = ask(serving(workspace), "add", {"a": 1, "b": 2}, era=era)

    assert text(result) == '{"sum":3}'
    assert result.structured_content == {"sum": 3}
    assert not result.is_error


def test_values_that_json_cannot_say_are_null_and_empty_fields_are_left_out(workspace, era):
    result = ask(serving(workspace), "odd_values", era=era)

    assert text(result) == '{"got":{"nan":null,"null":null,"umlaut":"ü","path":"a"}}'
    assert result.structured_content == json.loads(text(result))


def test_a_result_made_by_hand_is_passed_on(workspace, era):
    result = ask(serving(workspace), "picture", era=era)

    assert result.content == []
    assert result.structured_content is None


def test_an_answer_that_hosts_would_cut_is_refused_with_what_to_ask_instead(workspace, era):
    server = serving(workspace)

    assert not ask(server, "long", {"characters": CHARACTER_LIMIT - 100}, era=era).is_error
    result = ask(server, "long", {"characters": CHARACTER_LIMIT}, era=era)

    assert result.is_error
    assert "Ask for fewer rows (limit=)" in text(result)
    assert len(text(result)) < 300
    assert result.meta["error"]["code"] == "result_too_large"


@pytest.mark.parametrize(
    ("retryable", "expected"),
    [
        (False, ("That cannot be. Do this instead.", "invalid_request", "Do this instead.")),
        (True, ("The store does not answer. Try again in a minute.", "backend_unavailable", "Try again in a minute.")),
    ],
)
def test_a_foreseen_failure_is_a_result_with_code_hint_and_whether_to_retry(workspace, era, retryable, expected):
    result = ask(serving(workspace), "refuse", {"retryable": retryable}, era=era)

    told, code, hint = expected
    assert result.is_error
    assert text(result) == told
    assert result.structured_content is None
    assert result.meta["error"] == {"code": code, "hint": hint, "retryable": retryable}
    assert audited(workspace)[-1]["outcome"] == "error"


@pytest.mark.parametrize("how", ["key", "exit", "group", "stop", "interrupt"])
def test_a_bug_shows_the_client_a_reference_and_the_log_the_traceback(workspace, era, how):
    with structlog.testing.capture_logs() as logged:
        result = ask(serving(workspace), "crash", {"how": how}, era=era)

    assert result.is_error
    assert SECRET not in result.model_dump_json()
    assert "Error executing tool" not in text(result)
    reference = logged[0]["reference"]
    assert reference in text(result)
    assert logged[0]["exc_info"]
    assert result.meta["error"]["code"] == "internal_error"
    assert audited(workspace)[-1]["outcome"] == "crash"
    assert counts(workspace) == {("crash", "crash"): 1}


def test_a_server_goes_on_after_a_bug(workspace, era):
    async def session():
        async with Client(serving(workspace), mode=era) as client:
            for how in ("exit", "group", "key"):
                assert (await client.call_tool("crash", {"how": how})).is_error
            return await client.call_tool("add", {"a": 1})

    assert anyio.run(session).structured_content == {"sum": 2}


def test_an_unknown_tool_is_answered_with_the_nearest_ones(workspace, era):
    result = ask(serving(workspace), "crush", era=era)

    assert result.is_error
    assert text(result) == "There is no tool crush. Use crash."
    assert result.meta["error"]["code"] == "unknown_tool"
    assert audited(workspace)[-1]["outcome"] == "invalid"
    assert counts(workspace) == {("unknown", "invalid"): 1}


def test_a_caller_without_the_permission_is_told_who_has_it(workspace, era):
    result = ask(serving(workspace, Role.OPERATOR), "delete", era=era)

    assert result.is_error
    assert "needs the permission 'delete'; ann is operator" in text(result)
    assert "Ask for the role admin" in text(result)
    assert result.meta["error"]["code"] == "permission_denied"
    assert audited(workspace)[-1]["outcome"] == "denied"
    assert counts(workspace) == {("delete", "denied"): 1}


def test_a_call_of_nobody_is_denied_and_audited(workspace, era):
    def nobody():
        raise PermissionDeniedError("This call carries no bearer token.", hint="Send one.")

    result = ask(build_server(workspace, caller=nobody, toolsets=(toolbox,)), "add", {"a": 1}, era=era)

    assert result.is_error
    assert text(result) == "This call carries no bearer token. Send one."
    assert audited(workspace)[-1] | {"principal": None, "outcome": "denied"} == audited(workspace)[-1]


def test_who_calls_is_asked_for_every_call_and_not_once_for_the_server(workspace, era):
    callers = iter([Principal("viv", Role.VIEWER), Principal("adam", Role.ADMIN)] * 10)
    current = [next(callers)]
    server = build_server(workspace, caller=lambda: current[0], toolsets=(toolbox,))

    async def session():
        seen = []
        async with Client(server, mode=era) as client:
            for _ in range(2):
                seen.append((await client.call_tool("who_am_i")).structured_content["got"])
                seen.append((await client.call_tool("delete")).is_error)
                current[0] = next(callers)
        return seen

    viv, viv_denied, adam, adam_denied = anyio.run(session)
    assert (viv, viv_denied) == ({"name": "viv", "role": "viewer"}, True)
    assert (adam, adam_denied) == ({"name": "adam", "role": "admin"}, False)


def test_a_read_only_server_offers_and_runs_only_what_changes_nothing(tmp_path, era):
    with Workspace(Settings(workspace=tmp_path / "w", read_only=True, role="admin")) as workspace:
        server = serving(workspace, Role.ADMIN)

        assert not ask(server, "plan", era=era).is_error
        refused = ask(server, "start", era=era)

    assert refused.is_error
    assert text(refused) == "start changes things, and this server is read-only. Start it without --read-only."


def test_every_call_is_one_line_of_a_file_that_only_its_owner_reads(workspace, era):
    server = serving(workspace)
    ask(server, "add", {"a": 1, "b": 2}, era=era)
    ask(server, "add", {"b": 2, "a": 1}, era=era)
    ask(server, "refuse", era=era)

    first, second, third = audited(workspace)
    shown = {"ts", "principal", "role", "tool", "arguments_sha256", "outcome", "ms", "request_id", "writer", "seq"}
    assert set(first) == shown
    assert [(line["writer"], line["seq"]) for line in (first, second, third)] == [
        (first["writer"], n) for n in range(3)
    ]
    assert (first["principal"], first["role"], first["tool"], first["outcome"]) == ("ann", "operator", "add", "ok")
    assert first["arguments_sha256"] == second["arguments_sha256"] != third["arguments_sha256"]
    assert first["request_id"]
    assert stat.S_IMODE(workspace.audit.path.stat().st_mode) == 0o600


def test_a_call_is_answered_even_when_its_audit_line_cannot_be_written(workspace, era):
    workspace.audit.path.parent.mkdir(parents=True)
    workspace.audit.path.mkdir()

    with structlog.testing.capture_logs() as logged:
        result = ask(serving(workspace), "add", {"a": 1}, era=era)

    assert not result.is_error
    assert logged[0]["event"] == "the audit file cannot be written"


def test_a_tool_that_does_not_end_is_given_up_at_its_deadline(workspace, era):
    result = ask(serving(workspace), "hang", era=era)

    assert result.is_error
    assert text(result) == "hang did not end within 0.05 s. What it started goes on; ask again later."
    assert result.meta["error"] | {"code": "deadline_exceeded", "retryable": True} == result.meta["error"]


def test_a_cancelled_call_ends_at_once_and_the_server_goes_on(workspace, era, tmp_path):
    began = tmp_path / "began"

    async def session():
        async with Client(serving(workspace), mode=era) as client:
            async with anyio.create_task_group() as group:
                group.start_soon(client.call_tool, "wait_for", {"path": str(began)})
                await anyio.to_thread.run_sync(eventually, began.exists)
                group.cancel_scope.cancel()
            return await client.call_tool("add", {"a": 1})

    assert anyio.run(session).structured_content == {"sum": 2}
    eventually(lambda: ("wait_for", "cancelled") in workspace.metrics.snapshot())
    assert any((line["tool"], line["outcome"]) == ("wait_for", "cancelled") for line in audited(workspace))


def test_progress_reaches_the_client_from_any_thread_and_always_rises(workspace, era):
    told = []

    async def show(done, total, message):
        told.append((done, total, message))

    result = ask(serving(workspace), "tell", {"reports": [1, 1, 5, 2]}, era=era, progress=show)

    assert not result.is_error
    eventually(lambda: len(told) == 4)
    values = [done for done, _, _ in told]
    assert values == sorted(set(values))
    assert values[0] == 1
    assert values[2] == 5
    assert [(total, message) for _, total, message in told] == [
        (10, "at 1"),
        (10, "at 1"),
        (10, "at 5"),
        (10, "at 2"),
    ]


def test_progress_without_a_client_that_asked_for_it_is_silent(workspace, era):
    assert not ask(serving(workspace), "tell", {"reports": [1]}, era=era).is_error


def test_200_parallel_calls_give_200_right_answers_while_all_of_them_wait(workspace, era):
    server = serving(workspace)

    async def session():
        answers = {}

        async def one(client, number):
            result = await client.call_tool("meet", {"number": number})
            answers[number] = (result.structured_content or {}).get("number")

        async with Client(server, mode=era) as client, anyio.create_task_group() as group:
            for number in range(TOGETHER):
                group.start_soon(one, client, number)
        return answers

    assert anyio.run(session) == {number: number for number in range(TOGETHER)}
    assert counts(workspace) == {("meet", "ok"): TOGETHER}
    assert len(audited(workspace)) == TOGETHER


def test_the_log_of_a_call_names_tool_caller_and_request(workspace, era):
    seen = []

    def processor(_logger, _method, event):
        seen.append(dict(event))
        raise structlog.DropEvent

    structlog.configure(processors=[structlog.contextvars.merge_contextvars, processor])
    try:
        ask(serving(workspace), "crash", {"how": "key"}, era=era)
    finally:
        structlog.reset_defaults()

    assert seen[0]["tool"] == "crash"
    assert seen[0]["principal"] == "ann"
    assert seen[0]["request_id"]
    assert structlog.contextvars.get_contextvars() == {}
