"""The one boundary between MCP and the rest: every call of every client on every transport goes through it."""

import time
import uuid
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from difflib import get_close_matches
from typing import TYPE_CHECKING, Any, ClassVar

import anyio
import anyio.to_thread
import structlog
from mcp.server.mcpserver import Context
from mcp.types import CallToolResult
from structlog.contextvars import bind_contextvars, bound_contextvars

from mcp_server.access import Principal
from mcp_server.errors import DeadlineExceededError, NotFoundError, PermissionDeniedError, WorkspaceError
from mcp_server.metrics import Outcome
from mcp_server.tools._arguments import InvalidArgumentsError
from mcp_server.tools._progress import Reporter
from mcp_server.tools._results import failure, success
from mcp_server.tools._toolset import Call, Tool
from mcp_server.types import shown

if TYPE_CHECKING:
    from mcp_server.workspace import Workspace

THREADS = 256  # a call that waits for a study holds one

log = structlog.get_logger()


class UnknownToolError(NotFoundError):
    """No tool that is offered has this name."""

    code: ClassVar[str] = "unknown_tool"


class InternalError(WorkspaceError):
    """A bug: the client gets a reference, the log the traceback."""

    code: ClassVar[str] = "internal_error"


@dataclass(frozen=True)
class _Ending:
    result: CallToolResult
    outcome: Outcome


@dataclass
class _Entry:
    """A line of the audit file while its call runs."""

    principal: Principal | None = None
    outcome: Outcome = "cancelled"


class Boundary:
    """Runs tools for callers: permission, audit, metrics, log context, deadline, the function, errors as results.

    `caller` says who makes the call that is being handled; it is asked for every call.

    Raises:
        TypeError: If anything but a `Tool`, which always declares a permission, is among `tools`, or a name is twice.
    """

    def __init__(self, workspace: "Workspace", tools: Iterable[object], caller: Callable[[], Principal]) -> None:
        self._workspace = workspace
        self._caller = caller
        self._threads = anyio.CapacityLimiter(THREADS)
        self._tools: dict[str, Tool] = {}
        for tool in tools:
            if not isinstance(tool, Tool) or tool.name in self._tools:
                raise TypeError(f"{tool!r} is no tool with a name and a permission of its own")
            self._tools[tool.name] = tool

    def offered(self) -> tuple[Tool, ...]:
        """The tools that whoever makes the current call may use, in their order."""
        try:
            principal = self._caller()
        except PermissionDeniedError:
            return ()
        return tuple(tool for tool in self._tools.values() if self._refusal(tool, principal) is None)

    async def call(self, name: str, arguments: Mapping[str, Any], context: Context[Any, Any] | None) -> CallToolResult:
        """The result of a tool; every failure is a result that names the next step, only a cancellation is raised."""
        request_id = context.request_id if context is not None and context.protocol_version else None
        series = name if name in self._tools else "unknown"
        with (
            bound_contextvars(tool=shown(name), request_id=request_id, principal=None),
            self._audited(name, arguments, request_id) as entry,
            self._workspace.metrics.observe(series) as observation,
        ):
            ending = await self._end(name, dict(arguments), context, entry)
            observation.outcome = entry.outcome = ending.outcome
            return ending.result

    async def _end(
        self, name: str, arguments: dict[str, Any], context: Context[Any, Any] | None, entry: _Entry
    ) -> _Ending:
        try:
            entry.principal = principal = self._caller()
            bind_contextvars(principal=principal.name)
            tool = self._admitted(name, principal)
        except WorkspaceError as exc:
            return _failed(exc)
        async with Reporter(context) as reporter:
            call = Call(self._workspace, principal, reporter)
            with anyio.move_on_after(tool.deadline_s):
                return await anyio.to_thread.run_sync(
                    _run, tool, call, arguments, abandon_on_cancel=True, limiter=self._threads
                )
        late = f"{name} did not end within {tool.deadline_s:g} s."
        return _failed(DeadlineExceededError(late, hint="What it started goes on; ask again later."))

    def _admitted(self, name: str, principal: Principal) -> Tool:
        """The tool, if there is one with this name and the caller may use it."""
        tool = self._tools.get(name)
        if tool is None:
            offered = [tool.name for tool in self.offered()]
            near = get_close_matches(name, offered, 3) or offered
            raise UnknownToolError(f"There is no tool {shown(name)}.", hint=f"Use {', '.join(near)}." if near else "")
        if refusal := self._refusal(tool, principal):
            raise refusal
        return tool

    def _refusal(self, tool: Tool, principal: Principal) -> PermissionDeniedError | None:
        if self._workspace.settings.read_only and not tool.read_only:
            return PermissionDeniedError(
                f"{tool.name} changes things, and this server is read-only.", hint="Start it without --read-only."
            )
        try:
            principal.require(tool.permission, tool.name)
        except PermissionDeniedError as exc:
            return exc
        return None

    @contextmanager
    def _audited(self, tool: str, arguments: Mapping[str, Any], request_id: str | None) -> Iterator[_Entry]:
        entry, started = _Entry(), time.perf_counter()
        try:
            yield entry
        finally:
            try:
                self._workspace.audit.record(
                    principal=entry.principal,
                    tool=shown(tool),
                    arguments=arguments,
                    outcome=entry.outcome,
                    seconds=time.perf_counter() - started,
                    request_id=request_id,
                )
            except OSError as exc:
                log.error("the audit file cannot be written", error=str(exc))  # noqa: TRY400 - one line says it all


def _run(tool: Tool, call: Call, arguments: dict[str, Any]) -> _Ending:
    """The call in its worker thread, where nothing that is raised can be a cancellation."""
    try:
        return _Ending(success(tool.run(call, arguments)), "ok")
    except WorkspaceError as exc:
        return _failed(exc)
    except BaseException:  # also SystemExit and groups: no tool may end the server or show its insides
        reference = uuid.uuid4().hex[:8]
        log.exception("a tool crashed", reference=reference)
        text = f"{tool.name} failed because of a bug in the server (reference {reference})."
        return _Ending(failure(InternalError(text, hint="The server's log has the details.")), "crash")


def _failed(error: WorkspaceError) -> _Ending:
    outcome: Outcome = "error"
    if isinstance(error, InvalidArgumentsError | UnknownToolError):
        outcome = "invalid"
    elif isinstance(error, PermissionDeniedError):
        outcome = "denied"
    return _Ending(failure(error), outcome)
