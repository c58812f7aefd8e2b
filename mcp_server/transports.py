"""How clients reach the server, and how its process ends."""

import ipaddress
import os
import signal
import socket
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from http import HTTPStatus
from types import FrameType, TracebackType
from typing import TYPE_CHECKING, NoReturn, Self

import anyio
import structlog
from mcp.server.auth.middleware.auth_context import get_access_token
from mcp.server.auth.middleware.bearer_auth import AuthenticatedUser
from mcp.server.auth.provider import AccessToken
from mcp.server.transport_security import TransportSecuritySettings
from starlette.datastructures import Headers
from starlette.requests import Request
from starlette.responses import JSONResponse, PlainTextResponse, Response
from starlette.types import ASGIApp, Receive, Scope, Send
from uvicorn import Config, Server

from mcp_server.access import Principal, Role
from mcp_server.access.tokens import Tokens, new_token, write_token
from mcp_server.errors import InvalidRequestError, PermissionDeniedError
from mcp_server.server import TuningServer, build_server
from mcp_server.tools import TOOLSETS, Toolset

if TYPE_CHECKING:
    from mcp_server.settings import Settings
    from mcp_server.workspace import Workspace

BODY_LIMIT = 256 * 1024
GRACE_S = 2
CLOSING_LIMIT_S = 1.0
CONNECTION_LIMIT = 512
TOKEN_FILE = "http-token"  # noqa: S105 - a file name
ROLE_SCOPE = "role:"

log = structlog.get_logger()


def serve(workspace: "Workspace", toolsets: Sequence[Toolset] = TOOLSETS) -> NoReturn:
    """Serve the workspace over the transport of its settings, and end the process when that ends.

    Raises:
        InvalidRequestError: If the settings cannot be served, before anything is served.
    """
    settings = workspace.settings
    if settings.transport == "stdio":
        server = build_server(workspace, toolsets=toolsets)
        with Lifetime(workspace.close) as lifetime:
            lifetime.on_signals(lifetime.end_by)
            workspace.keep_alive()
            anyio.run(server.run_stdio_async)
    else:
        listening = listen(settings)
        server, token = build_guarded(workspace, toolsets)
        web = WebServer(application(server, settings.transport, addresses(settings, listening)))
        with Lifetime(workspace.close) as lifetime:
            lifetime.on_signals(partial(_stop, web, lifetime))
            workspace.keep_alive()
            _announce(workspace, listening, token)
            anyio.run(partial(web.serve, sockets=[listening]))
    raise AssertionError("Lifetime ends the process")


class Lifetime:
    """The rest of this process: leaving the block ends it, whatever threads still do.

    A tool that hangs, a blocked read of stdin or a client that keeps a connection open cannot keep it alive.
    """

    def __init__(self, close: Callable[[], None]) -> None:
        self._close = close
        self._signal = 0

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, exc: BaseException | None, trace: TracebackType | None
    ) -> None:
        if exc is not None:
            log.error("the server stopped", exc_info=exc)
        self.end(128 + self._signal if self._signal else int(exc is not None))

    def on_signals(self, handler: Callable[[int], None]) -> None:
        """Have `handler` called on SIGINT and SIGTERM; a second signal ends the process at once."""

        def first(number: int, _frame: FrameType | None) -> None:
            for each in (signal.SIGINT, signal.SIGTERM):
                signal.signal(each, lambda number, _: self.end_by(number))
            self._signal = number
            handler(number)

        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, first)

    def end_by(self, number: int) -> None:
        """End the process as a shell expects of one that a signal ended."""
        self.end(128 + number)

    def end(self, code: int) -> NoReturn:
        """Close what was opened, for a second at most, and end the process."""
        # A thread, because the main thread may have been interrupted while it held a lock that closing needs.
        closing = threading.Thread(target=self._close, daemon=True)
        closing.start()
        closing.join(CLOSING_LIMIT_S)
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)


class WebServer(Server):
    """uvicorn with a bounded end, and without its own signal handlers and access log."""

    def __init__(self, app: ASGIApp) -> None:
        super().__init__(
            Config(
                app,
                access_log=False,
                log_config=None,
                server_header=False,
                limit_concurrency=CONNECTION_LIMIT,
                timeout_graceful_shutdown=GRACE_S,
            )
        )

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Leave signals to `Lifetime`."""
        yield


class BearerVerifier:
    """What the SDK asks about a bearer token."""

    def __init__(self, tokens: Tokens) -> None:
        self._tokens = tokens

    async def verify_token(self, token: str) -> AccessToken | None:
        """The caller as the SDK's token, None when it is not known."""
        principal = self._tokens.principal(token)
        if principal is None:
            return None
        scopes = [f"{ROLE_SCOPE}{principal.role.value}"]
        return AccessToken(token=token, client_id=principal.name, subject=principal.name, scopes=scopes)


def bearer() -> Principal:
    """Who sent the current request.

    Raises:
        PermissionDeniedError: If the request carries no token that was verified.
    """
    token = get_access_token()
    role = next((s.removeprefix(ROLE_SCOPE) for s in token.scopes if s.startswith(ROLE_SCOPE)), None) if token else None
    if token is None or role is None:
        raise PermissionDeniedError("This call carries no bearer token.", hint="Send Authorization: Bearer <token>.")
    return Principal(token.subject or token.client_id, Role(role))


def build_guarded(workspace: "Workspace", toolsets: Sequence[Toolset] = TOOLSETS) -> tuple[TuningServer, str | None]:
    """A server that answers bearers of the token only, and the token if it was generated.

    `/health` is open and says the version; `/metrics` takes the token too.

    Raises:
        InvalidRequestError: If the configured token is too short, or a toolset is unknown.
    """
    settings = workspace.settings
    generated = None if settings.http_token else new_token()
    token = settings.http_token.get_secret_value() if settings.http_token else generated
    tokens = Tokens({token or "": Principal("bearer", Role(settings.role))})
    server = build_server(workspace, caller=bearer, toolsets=toolsets, verifier=BearerVerifier(tokens))

    async def health(_request: Request) -> Response:
        """The version, for whoever asks whether the server is there."""
        return JSONResponse({"status": "ok", "version": server.version})

    async def metrics(request: Request) -> Response:
        """Counts and times of tools as Prometheus reads them."""
        if not isinstance(request.user, AuthenticatedUser):
            return PlainTextResponse(
                "A bearer token is required.\n", HTTPStatus.UNAUTHORIZED, {"WWW-Authenticate": "Bearer"}
            )
        return PlainTextResponse(workspace.metrics.prometheus(), media_type="text/plain; version=0.0.4")

    server.custom_route("/health", methods=["GET"])(health)
    server.custom_route("/metrics", methods=["GET"])(metrics)
    return server, generated


class HostGuard:
    """An application that is reached under its own addresses only, which keeps web pages of others out.

    The SDK checks too, but not the routes beside the protocol's, and over SSE it logs every refusal as a crash.
    """

    def __init__(self, app: ASGIApp, hosts: Sequence[str]) -> None:
        self._app = app
        self._hosts = frozenset(hosts)
        self._origins = frozenset(f"http://{host}" for host in hosts)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request, or refuse it (421 for another host, 403 for another origin)."""
        if scope["type"] != "http":
            return await self._app(scope, receive, send)
        headers = Headers(scope=scope)
        if headers.get("host") not in self._hosts:
            refusal = PlainTextResponse("Another host is asked for.\n", HTTPStatus.MISDIRECTED_REQUEST)
        elif headers.get("origin", None) not in {None, *self._origins}:
            refusal = PlainTextResponse("Pages of this origin may not ask.\n", HTTPStatus.FORBIDDEN)
        else:
            return await self._app(scope, receive, send)
        return await refusal(scope, receive, send)


def application(server: TuningServer, transport: str, hosts: Sequence[str]) -> ASGIApp:
    """The web application of a transport, for requests to exactly these `host:port`."""
    security = TransportSecuritySettings(
        allowed_hosts=list(hosts), allowed_origins=[f"http://{host}" for host in hosts]
    )
    if transport == "sse":
        return HostGuard(server.sse_app(transport_security=security, max_request_body_size=BODY_LIMIT), hosts)
    # Without sessions a dropped connection cancels its call, and a restart of the server is not noticed.
    app = server.streamable_http_app(transport_security=security, max_request_body_size=BODY_LIMIT, stateless_http=True)
    return HostGuard(app, hosts)


def listen(settings: "Settings") -> socket.socket:
    """A socket bound to the address of the settings.

    Raises:
        InvalidRequestError: If that is not this computer's own, or is taken.
    """
    host = settings.host
    if host != "localhost" and not _loopback(host):
        raise InvalidRequestError(
            f"{host} can be reached by other computers.", hint="Use --host 127.0.0.1, or a tunnel to it."
        )
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    listening = socket.socket(family, socket.SOCK_STREAM)
    listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listening.bind((host, settings.port))
        listening.listen()  # so that who reads the announcement can connect
    except OSError as exc:
        listening.close()
        raise InvalidRequestError(
            f"{host}:{settings.port} cannot be used: {exc.strerror}.", hint="Choose another --port; 0 takes a free one."
        ) from exc
    return listening


def addresses(settings: "Settings", listening: socket.socket) -> list[str]:
    """The `host:port` that requests to the socket may name."""
    port = listening.getsockname()[1]
    host = f"[{settings.host}]" if ":" in settings.host else settings.host
    return list(dict.fromkeys(f"{name}:{port}" for name in (host, "127.0.0.1", "localhost")))


def _loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def _stop(web: WebServer, lifetime: Lifetime, number: int) -> None:
    """Let running requests end, for a bounded time."""
    web.handle_exit(number, None)
    late = threading.Timer(GRACE_S + 0.5, lifetime.end_by, [number])
    late.daemon = True
    late.start()


def _announce(workspace: "Workspace", listening: socket.socket, token: str | None) -> None:
    settings = workspace.settings
    path = {"http": "/mcp", "sse": "/sse"}[settings.transport]
    lines = [f"Listening on http://{addresses(settings, listening)[0]}{path}"]
    if token is not None:
        write_token(settings.workspace / TOKEN_FILE, token)
        lines.append(f"Bearer token: {token} (also in {settings.workspace / TOKEN_FILE})")
    sys.stderr.write("\n".join(lines) + "\n")
    sys.stderr.flush()
