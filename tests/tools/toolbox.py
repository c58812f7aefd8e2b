"""Tools with every behaviour that the boundary has to deal with, and a client to call them."""

import sys
import threading
from functools import partial
from pathlib import Path
from typing import Annotated, Literal

import anyio
from mcp import Client
from mcp.types import CallToolResult
from pydantic import BaseModel, ConfigDict, Field, field_validator

from mcp_server.access import Permission, Principal, Role
from mcp_server.errors import BackendUnavailableError, InvalidRequestError
from mcp_server.server import TuningServer, build_server
from mcp_server.tools import Call, Toolset
from mcp_server.types import Params, Seconds

ERAS = ("auto", "legacy")
SECRET = "hunter2"
TOGETHER = 200

toolbox = Toolset("toolbox", default=True)
meeting = threading.Barrier(TOGETHER)
over = threading.Event()  # lets the tools that hang end, so that the test process can


class Options(BaseModel):
    """A model inside the arguments."""

    model_config = ConfigDict(extra="forbid")

    folds: int = Field(default=5, ge=2, le=50)
    ratio: float = Field(default=0.5, gt=0, lt=1)


class Spec(BaseModel):
    """A lone model: its fields are the arguments."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    study_name: str = Field(min_length=1, max_length=120, description="Unique.")
    n_trials: int = Field(default=20, ge=1, le=100_000, description="Total.")
    timeout_s: Seconds | None = Field(default=None, description="Limit.")
    whole: int = Field(default=0, description="Any whole number.")
    sampler: Literal["tpe", "random", "grid"] = Field(default="tpe", description="How to search.")
    options: Options | None = Field(default=None, description="More.")
    fixed: Params = Field(default_factory=dict, description="Values by name.")
    drop: list[str] = Field(default_factory=list, max_length=1_000, description="Columns.")
    note: str | None = Field(default=None, description="Free text.")
    force: bool = Field(default=False, description="Yes or no.")
    even: int | None = Field(default=None, description="An even number.")

    @field_validator("even")
    @classmethod
    def _even(cls, value: int | None) -> int | None:
        if value is not None and value % 2:
            raise ValueError("must be even")
        return value


class Echo(BaseModel):
    """What arrived."""

    got: dict[str, object]
    nothing: str | None = None


@toolbox.tool(Permission.READ)
def take(call: Call, spec: Spec) -> Echo:
    """Give back what arrived.

    A second paragraph.

    Args:
        call: Not for the model.
        spec: Not for the model.
    """
    return Echo(got=spec.model_dump(exclude_unset=True))


@toolbox.tool(Permission.READ, title="Add two numbers")
def add(
    call: Call, a: Annotated[int, Field(description="One.")], b: Annotated[int, Field(description="Two.")] = 1
) -> dict[str, object]:
    """The sum."""
    return {"sum": a + b}


@toolbox.tool(Permission.READ)
def crash(
    call: Call, how: Annotated[Literal["key", "exit", "group", "stop", "interrupt"], Field(description="How.")]
) -> Echo:
    """Fail in a way that nobody foresaw."""
    match how:
        case "exit":
            sys.exit(SECRET)
        case "group":
            raise BaseExceptionGroup(SECRET, [KeyboardInterrupt(SECRET)])
        case "stop":
            raise StopIteration(SECRET)
        case "interrupt":
            raise KeyboardInterrupt(SECRET)
        case _:
            raise KeyError(SECRET)


@toolbox.tool(Permission.READ)
def refuse(call: Call, retryable: Annotated[bool, Field(description="Whether to try again.")] = False) -> Echo:
    """Fail in a way that was foreseen."""
    if retryable:
        raise BackendUnavailableError("The store does not answer.", hint="Try again in a minute.")
    raise InvalidRequestError("That cannot be.", hint="Do this instead.")


@toolbox.tool(Permission.READ)
def long(call: Call, characters: Annotated[int, Field(description="How many.")]) -> Echo:
    """A long answer."""
    return Echo(got={"text": "x" * characters})


@toolbox.tool(Permission.READ)
def odd_values(call: Call) -> Echo:
    """Values that JSON has no word for."""
    return Echo(got={"nan": float("nan"), "null": None, "umlaut": "ü", "path": Path("a")})


@toolbox.tool(Permission.READ)
def picture(call: Call) -> CallToolResult:
    """A result made by hand."""
    return CallToolResult(content=[])


@toolbox.tool(Permission.READ, deadline_s=0.05)
def hang(call: Call) -> Echo:
    """Never end."""
    over.wait()
    return Echo(got={})


@toolbox.tool(Permission.READ)
def wait_for(call: Call, path: Annotated[str, Field(description="A file to make; then never end.")]) -> Echo:
    """Say that it began, and never end."""
    Path(path).touch()
    over.wait()
    return Echo(got={})


@toolbox.tool(Permission.READ)
def meet(call: Call, number: Annotated[int, Field(description="Who.")]) -> dict[str, object]:
    """Wait until 200 calls wait here."""
    meeting.wait(timeout=60)
    return {"number": number}


@toolbox.tool(Permission.READ)
def tell(call: Call, reports: Annotated[list[float], Field(description="What to report.")]) -> Echo:
    """Report progress from a thread of its own."""
    thread = threading.Thread(target=lambda: [call.progress(value, 10, f"at {value:g}") for value in reports])
    thread.start()
    thread.join()
    return Echo(got={})


@toolbox.tool(Permission.READ)
def who_am_i(call: Call) -> Echo:
    """The caller."""
    return Echo(got={"name": call.principal.name, "role": call.principal.role.value})


@toolbox.tool(Permission.PLAN)
def plan(call: Call) -> Echo:
    """For operators, changing nothing."""
    return Echo(got={})


@toolbox.tool(Permission.TUNE, idempotent=True)
def start(call: Call) -> Echo:
    """For operators."""
    return Echo(got={})


@toolbox.tool(Permission.DELETE, destructive=True)
def delete(call: Call) -> Echo:
    """For administrators."""
    return Echo(got={})


def serving(workspace, role: Role = Role.OPERATOR, toolsets=(toolbox,)) -> TuningServer:
    """A server of the toolbox for a caller of a role."""
    return build_server(workspace, caller=lambda: Principal("ann", role), toolsets=toolsets)


def ask(server, tool: str, arguments: dict | None = None, *, era: str = "auto", progress=None) -> CallToolResult:
    """The result of one call through a real client."""

    async def session():
        async with Client(server, mode=era) as client:
            return await client.call_tool(tool, arguments or {}, progress_callback=progress)

    return anyio.run(session)


def text(result: CallToolResult) -> str:
    """All that some hosts show of a result."""
    return result.content[0].text


def names(server, era: str = "auto") -> list[str]:
    """The tools that are listed."""

    async def session():
        async with Client(server, mode=era) as client:
            return [tool.name for tool in (await client.list_tools()).tools]

    return anyio.run(partial(session))
