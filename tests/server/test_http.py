"""Streamable HTTP and SSE: who gets in, and how the process ends."""

import json
import signal
import stat
from contextlib import asynccontextmanager, suppress

import anyio
import httpx2
import pytest
from mcp import Client, MCPError
from mcp.client.sse import sse_client
from mcp.client.streamable_http import streamable_http_client

from mcp_server.errors import InvalidRequestError, PermissionDeniedError
from mcp_server.settings import Settings
from mcp_server.transports import BODY_LIMIT, bearer, build_guarded, listen
from mcp_server.workspace import Workspace
from tests.conftest import eventually
from tests.server.process import TOOLBOX, listening

pytestmark = pytest.mark.process

TRANSPORTS = ("http", "sse")
EVERYWHERE = "0.0.0.0"
# A client of each protocol era and transport; SSE has the older era only.
CLIENTS = [("http", "auto"), ("http", "legacy"), ("sse", "legacy")]
CALL = {"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": {"name": "add", "arguments": {"a": 1}}}
ACCEPT = {"Accept": "application/json, text/event-stream"}


@pytest.fixture(scope="module")
def servers(tmp_path_factory):
    with (
        listening(tmp_path_factory.mktemp("http"), "http", program=TOOLBOX) as http,
        listening(tmp_path_factory.mktemp("sse"), "sse", program=TOOLBOX) as sse,
    ):
        yield {"http": http, "sse": sse}


@asynccontextmanager
async def connected(server, transport, mode):
    headers = {"Authorization": f"Bearer {server.token}"}
    if transport == "sse":
        async with Client(sse_client(server.url, headers=headers), mode=mode) as client:
            yield client
        return
    async with (
        httpx2.AsyncClient(headers=headers, timeout=60) as web,
        Client(streamable_http_client(server.url, http_client=web), mode=mode) as client,
    ):
        yield client


@asynccontextmanager
async def waiting(server, transport, tmp_path):
    """A client with a call that never ends, dropped at the end."""
    began = tmp_path / "began"

    async def wait(client):
        with suppress(MCPError):  # the server may end first
            await client.call_tool("wait_for", {"path": str(began)})

    async with connected(server, transport, "legacy") as client, anyio.create_task_group() as group:
        group.start_soon(wait, client)
        await anyio.to_thread.run_sync(eventually, began.exists)
        yield
        group.cancel_scope.cancel()


def request(server, method="POST", path=None, token=None, body=None, **headers):
    address = server.url if path is None else server.url.rsplit("/", 1)[0] + path
    if token:
        headers["Authorization"] = f"Bearer {token}"
    content = json.dumps(CALL).encode() if body is None and method == "POST" else body
    json_type = {"Content-Type": "application/json"} if method == "POST" else {}
    return httpx2.request(method, address, content=content, headers={**ACCEPT, **json_type, **headers}, timeout=30)


@pytest.mark.parametrize(("transport", "mode"), CLIENTS)
def test_a_client_with_the_token_calls_tools_in_the_role_of_the_server(servers, transport, mode):
    async def session():
        async with connected(servers[transport], transport, mode) as client:
            who = await client.call_tool("who_am_i")
            refused = await client.call_tool("delete")
            return who.structured_content["got"], refused.is_error, [t.name for t in (await client.list_tools()).tools]

    who, refused, names = anyio.run(session)
    assert who == {"name": "bearer", "role": "operator"}
    assert refused
    assert "start" in names
    assert "delete" not in names


@pytest.mark.parametrize(("transport", "mode"), CLIENTS)
def test_progress_and_bugs_cross_the_wire_like_in_memory(servers, transport, mode):
    told = []

    async def show(done, total, message):
        told.append((done, message))

    async def session():
        async with connected(servers[transport], transport, mode) as client:
            await client.call_tool("tell", {"reports": [1, 2]}, progress_callback=show)
            return await client.call_tool("crash", {"how": "exit"})

    crashed = anyio.run(session)
    assert told == [(1, "at 1"), (2, "at 2")]
    assert crashed.is_error
    assert "hunter2" not in crashed.model_dump_json()


@pytest.mark.parametrize("mode", ["auto", "legacy"])
def test_200_parallel_calls_over_the_wire_give_200_right_answers(servers, mode):
    async def session():
        answers = {}

        async def one(client, number):
            answers[number] = (await client.call_tool("add", {"a": number, "b": 1})).structured_content["sum"]

        async with connected(servers["http"], "http", mode) as client, anyio.create_task_group() as group:
            for number in range(200):
                group.start_soon(one, client, number)
        return answers

    assert anyio.run(session) == {number: number + 1 for number in range(200)}


@pytest.mark.parametrize("transport", TRANSPORTS)
@pytest.mark.parametrize("token", [None, "wrong", "Bearer", "\u00fcmlaut"])
def test_without_the_token_nothing_is_answered(servers, transport, token):
    method = "POST" if transport == "http" else "GET"
    headers = {} if token is None else {"Authorization": f"Bearer {token}".encode()}
    answer = request(servers[transport], method, **headers)

    assert answer.status_code == 401
    assert answer.headers["www-authenticate"].startswith("Bearer")


def test_the_token_in_the_address_is_no_token(servers):
    server = servers["http"]

    assert request(server, path=f"/mcp?token={server.token}&access_token={server.token}").status_code == 401


@pytest.mark.parametrize("transport", TRANSPORTS)
@pytest.mark.parametrize("host", ["evil.example", "127.0.0.1", "127.0.0.1:1", "localhost:evil"])
def test_a_request_for_another_host_is_misdirected(servers, transport, host):
    server = servers[transport]
    before = server.told()

    answer = request(server, "POST" if transport == "http" else "GET", token=server.token, Host=host)

    assert answer.status_code == 421
    assert server.told() == before


@pytest.mark.parametrize("transport", TRANSPORTS)
@pytest.mark.parametrize("origin", ["http://evil.example", "null", "https://localhost", "http://localhost:1"])
def test_a_request_from_another_origin_is_forbidden(servers, transport, origin):
    server = servers[transport]
    before = server.told()

    answer = request(server, "POST" if transport == "http" else "GET", token=server.token, Origin=origin)

    assert answer.status_code == 403
    assert server.told() == before


def test_a_page_of_the_server_itself_is_no_other_origin(servers):
    server = servers["http"]

    assert request(server, token=server.token, Origin=server.url.removesuffix("/mcp")).status_code == 200


def test_row_13_a_body_that_is_too_large_is_refused(servers):
    server = servers["http"]
    body = json.dumps(CALL | {"params": {"name": "add", "arguments": {"a": "1" * BODY_LIMIT}}}).encode()

    assert request(server, token=server.token, body=body).status_code == 413


def test_row_14_json_nested_100_000_deep_is_refused(servers):
    server = servers["http"]

    assert request(server, token=server.token, body=b"[" * 100_000 + b"]" * 100_000).status_code == 400
    assert request(server, token=server.token).status_code == 200


@pytest.mark.parametrize("transport", TRANSPORTS)
def test_health_is_open_and_says_only_the_version(servers, transport):
    answer = request(servers[transport], "GET", "/health")

    assert answer.status_code == 200
    assert set(answer.json()) == {"status", "version"}


@pytest.mark.parametrize("transport", TRANSPORTS)
def test_metrics_take_the_token_and_are_prometheus_text(servers, transport):
    server = servers[transport]

    async def session():
        async with connected(server, transport, "legacy") as client:
            await client.call_tool("add", {"a": 1})

    anyio.run(session)
    assert request(server, "GET", "/metrics").status_code == 401
    answer = request(server, "GET", "/metrics", token=server.token)
    assert answer.status_code == 200
    assert answer.headers["content-type"].startswith("text/plain; version=0.0.4")
    assert 'tuning_tool_seconds_count{tool="add",outcome="ok"}' in answer.text


@pytest.mark.parametrize("transport", TRANSPORTS)
def test_the_token_is_told_once_and_kept_in_a_file_of_the_owner(servers, transport):
    server = servers[transport]
    file = server.workspace / "http-token"

    assert len(server.token) >= 43
    assert server.told().count(server.token) == 1
    assert file.read_text(encoding="ascii") == server.token
    assert stat.S_IMODE(file.stat().st_mode) == 0o600


@pytest.mark.parametrize("transport", TRANSPORTS)
def test_a_signal_ends_an_idle_process(tmp_path, transport):
    with listening(tmp_path, transport, program=TOOLBOX) as server:
        eventually(lambda: request(server, "GET", "/health").status_code == 200)
        server.running.send_signal(signal.SIGINT)

        assert server.wait() == 130


@pytest.mark.parametrize("transport", TRANSPORTS)
def test_a_tool_that_hangs_and_a_client_that_waits_do_not_keep_the_process(tmp_path, transport):
    async def session():
        async with waiting(server, transport, tmp_path):
            server.running.send_signal(signal.SIGTERM)
            return await anyio.to_thread.run_sync(server.wait)

    with listening(tmp_path, transport, program=TOOLBOX) as server:
        assert anyio.run(session) == 143


def test_a_second_signal_ends_the_process_at_once(tmp_path):
    async def session():
        async with waiting(server, "http", tmp_path):
            server.running.send_signal(signal.SIGTERM)
            await anyio.to_thread.run_sync(server.wait_until_deaf)
            server.running.send_signal(signal.SIGTERM)
            return await anyio.to_thread.run_sync(server.wait, 1)

    with listening(tmp_path, "http", program=TOOLBOX) as server:
        assert anyio.run(session) == 143


def test_a_dropped_connection_cancels_its_call(servers, tmp_path):
    server = servers["http"]

    async def session():
        async with waiting(server, "http", tmp_path):
            pass

    anyio.run(session)
    audit = server.workspace / "audit.jsonl"
    eventually(lambda: audit.exists() and "cancelled" in audit.read_text(encoding="utf-8"))


@pytest.mark.parametrize("host", [EVERYWHERE, "::", "192.0.2.1", "example.org", ""])
def test_an_address_that_others_can_reach_is_refused(tmp_path, host):
    with pytest.raises(InvalidRequestError, match="can be reached by other computers"):
        listen(Settings(workspace=tmp_path, host=host, port=0))


def test_a_port_that_is_taken_is_named(tmp_path):
    with listen(Settings(workspace=tmp_path, port=0)) as taken:
        taken.listen()
        port = taken.getsockname()[1]

        with pytest.raises(InvalidRequestError, match=f"127.0.0.1:{port} cannot be used"):
            listen(Settings(workspace=tmp_path, port=port))


def test_a_configured_token_is_used_and_neither_told_nor_written(tmp_path):
    with Workspace(Settings(workspace=tmp_path, http_token="correct horse battery staple")) as workspace:
        _, generated = build_guarded(workspace)

    assert generated is None


def test_a_token_that_can_be_guessed_is_refused(tmp_path):
    with (
        Workspace(Settings(workspace=tmp_path, http_token="12345678")) as workspace,
        pytest.raises(InvalidRequestError, match="fewer than 16 characters"),
    ):
        build_guarded(workspace)


def test_a_request_without_a_verified_token_has_no_caller():
    with pytest.raises(PermissionDeniedError, match="no bearer token"):
        bearer()
