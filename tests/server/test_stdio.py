"""The real process over stdio."""

import json
import signal
import sys

import anyio
import pytest
from mcp import Client
from mcp.client.stdio import StdioServerParameters

from tests.conftest import eventually
from tests.server.process import PRODUCT, ROOT, TOOLBOX, process

pytestmark = pytest.mark.process


EVERYWHERE = "0.0.0.0"


@pytest.fixture
def server(tmp_path):
    with process(tmp_path, program=TOOLBOX) as running:
        running.initialize()
        yield running


@pytest.fixture(scope="module")
def shared(tmp_path_factory):
    """A server for tests that leave it as it was."""
    with process(tmp_path_factory.mktemp("stdio"), program=TOOLBOX) as running:
        running.initialize()
        yield running


def hang(server, tmp_path):
    """Have a thread of the server wait for ever."""
    began = tmp_path / "began"
    arguments = {"name": "wait_for", "arguments": {"path": str(began)}}
    server.send({"jsonrpc": "2.0", "id": 99, "method": "tools/call", "params": arguments})
    eventually(began.exists)


@pytest.mark.parametrize("mode", ["auto", "legacy"])
def test_a_real_client_lists_and_calls_tools_of_the_product(tmp_path, mode):
    arguments = [*PRODUCT, "--workspace", str(tmp_path / "w"), "--toolsets", "team"]
    role = {"MCP_SERVER_ROLE": "viewer"}

    async def session():
        command = StdioServerParameters(command=sys.executable, args=arguments, cwd=str(ROOT), env=role)
        async with Client(command, mode=mode) as client:
            listed = (await client.list_tools()).tools
            return [t.name for t in listed], (await client.call_tool("server_status")).structured_content

    names, status = anyio.run(session)
    assert names == ["server_status", "get_budget_report"]
    assert (status["role"], status["transport"], status["read_only"]) == ("viewer", "stdio", False)


def test_nothing_but_the_protocol_is_written_to_stdout(shared):
    shared.send(b"this is not JSON")
    answer = shared.call("add", a=1)

    assert answer["structuredContent"] == {"sum": 2}
    lines = (shared.workspace / "audit.jsonl").read_text(encoding="utf-8").splitlines()
    assert {json.loads(line)["principal"] for line in lines} == {"local"}


def test_a_tool_that_exits_does_not_end_or_hang_the_server(server):
    for number, how in enumerate(("exit", "group", "interrupt", "stop", "key"), start=1):
        assert server.call("crash", number, how=how)["isError"] is True

    assert server.call("add", 10, a=1)["structuredContent"] == {"sum": 2}
    assert server.told().count("Traceback") >= 5
    server.running.stdin.close()
    assert server.wait() == 0


def test_row_14_json_nested_100_000_deep_is_dropped_and_the_server_lives(shared):
    shared.send(b'{"jsonrpc":"2.0","id":5,"method":"tools/call","params":' + b"[" * 100_000 + b"]" * 100_000 + b"}")

    assert shared.call("add", 6, a=1)["structuredContent"] == {"sum": 2}


def test_row_15_invalid_utf_8_is_replaced(shared):
    head = b'{"jsonrpc":"2.0","id":7,"method":"tools/call","params":{"name":"take","arguments":'
    shared.send(head + b'{"study_name":"a\xff\xfeb"}}}')

    assert shared.receive()["result"]["structuredContent"]["got"]["study_name"] == "a\ufffd\ufffdb"


def test_row_16_of_two_equal_keys_the_last_one_counts(shared):
    head = b'{"jsonrpc":"2.0","id":8,"method":"tools/call","params":{"name":"add","arguments":'
    shared.send(head + b'{"a":1,"a":5}}}')

    assert shared.receive()["result"]["structuredContent"] == {"sum": 6}


@pytest.mark.parametrize("literal", [b"NaN", b"Infinity", b"1e999"])
def test_row_10_numbers_that_are_not_finite_are_refused_on_the_wire(shared, literal):
    head = b'{"jsonrpc":"2.0","id":9,"method":"tools/call","params":{"name":"take","arguments":'
    shared.send(head + b'{"study_name":"a","timeout_s":' + literal + b"}}}")

    assert "timeout_s must be a finite number" in shared.receive()["result"]["content"][0]["text"]


def test_the_end_of_stdin_ends_the_process_while_a_tool_hangs_in_a_thread(server, tmp_path):
    hang(server, tmp_path)
    server.running.stdin.close()

    assert server.wait() == 0
    outcomes = [json.loads(line)["outcome"] for line in (server.workspace / "audit.jsonl").read_text().splitlines()]
    assert outcomes == ["cancelled"]


@pytest.mark.parametrize(("number", "status"), [(signal.SIGTERM, 143), (signal.SIGINT, 130)])
def test_a_signal_ends_the_process_at_once_while_a_tool_hangs_in_a_thread(server, tmp_path, number, status):
    hang(server, tmp_path)
    server.running.send_signal(number)

    assert server.wait() == status


def test_a_client_that_is_gone_ends_the_process(server):
    server.running.stdout.close()
    server.send({"jsonrpc": "2.0", "id": 1, "method": "tools/list"})
    server.running.stdin.close()

    assert server.wait() is not None


@pytest.mark.parametrize(
    ("options", "told"),
    [
        (("--toolsets", "tuners"), "There is no toolset 'tuners'. Known toolsets: tuning, training, tracking, team"),
        (("--transport", "http", "--host", EVERYWHERE), f"{EVERYWHERE} can be reached by other computers."),
    ],
)
def test_settings_that_cannot_be_served_end_in_one_sentence(tmp_path, options, told):
    with process(tmp_path, *options) as server:
        assert server.wait(60) == 2
        assert told in server.told()
        assert "Traceback" not in server.told()
        assert len(server.told().splitlines()) == 1
