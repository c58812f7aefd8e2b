"""The server with the fixtures that the official conformance suite asks for, without tokens: for that suite only.

Fixture tools go through the product's own boundary, except those that ask or notify the client, which no tool of the
product does: the SDK calls them (`python -m tests.conformance.server PORT [--sessions]`).
"""

import base64
import json
import sys
import tempfile
import warnings
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any

import anyio
from mcp import MCPDeprecationWarning
from mcp.server import MCPServer
from mcp.server.mcpserver import Context
from mcp.server.mcpserver.prompts.base import UserMessage
from mcp.types import (
    AudioContent,
    CallToolResult,
    Completion,
    ContentBlock,
    EmbeddedResource,
    ImageContent,
    InputRequiredResult,
    TextContent,
    TextResourceContents,
)
from mcp.types import Tool as ListedTool
from pydantic import BaseModel, ConfigDict, Field

from mcp_server import logs
from mcp_server.access import Permission
from mcp_server.errors import InvalidRequestError
from mcp_server.server import TuningServer, build_server
from mcp_server.settings import Settings
from mcp_server.tools import TOOLSETS, Call, Toolset
from mcp_server.transports import WebServer, addresses, application, listen
from mcp_server.workspace import Workspace
from tests.conformance import notices, questions

BESIDE = {tool.__name__: tool for tool in (*questions.TOOLS, *notices.TOOLS)}
PIXEL = "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg=="
SILENCE = "UklGRiQAAABXQVZFZm10IBAAAAABAAEARKwAAIhYAQACABAAZGF0YQAAAAA="

fixtures = Toolset("conformance", default=True)


def content(*blocks: ContentBlock) -> CallToolResult:
    """A result without structured content."""
    return CallToolResult(content=list(blocks))


def note(text: str) -> TextContent:
    """A block of text."""
    return TextContent(type="text", text=text)


def image() -> ImageContent:
    """A block with one pixel."""
    return ImageContent(type="image", data=PIXEL, mime_type="image/png")


def embedded(uri: str, text: str, mime_type: str = "text/plain") -> EmbeddedResource:
    """A block with a resource inside."""
    resource = TextResourceContents(uri=uri, mime_type=mime_type, text=text)
    return EmbeddedResource(type="resource", resource=resource)


@fixtures.tool(Permission.READ)
def test_simple_text(call: Call) -> CallToolResult:
    """Text."""
    return content(note("This is a simple text response for testing."))


@fixtures.tool(Permission.READ)
def test_image_content(call: Call) -> CallToolResult:
    """An image."""
    return content(image())


@fixtures.tool(Permission.READ)
def test_audio_content(call: Call) -> CallToolResult:
    """A sound."""
    return content(AudioContent(type="audio", data=SILENCE, mime_type="audio/wav"))


@fixtures.tool(Permission.READ)
def test_embedded_resource(call: Call) -> CallToolResult:
    """A resource inside a result."""
    return content(embedded("test://embedded-resource", "This is an embedded resource content."))


@fixtures.tool(Permission.READ)
def test_multiple_content_types(call: Call) -> CallToolResult:
    """Three kinds of content."""
    data = json.dumps({"test": "data", "value": 123})
    mixed = embedded("test://mixed-content-resource", data, "application/json")
    return content(note("Multiple content types test:"), image(), mixed)


@fixtures.tool(Permission.READ)
def test_error_handling(call: Call) -> CallToolResult:
    """A failure."""
    raise InvalidRequestError("This tool intentionally returns an error for testing")


@fixtures.tool(Permission.READ)
def test_tool_with_progress(call: Call) -> CallToolResult:
    """Progress in three steps."""
    for done in (0, 50, 100):
        call.progress(done, 100, f"Completed step {done} of 100")
    return content(note("done"))


class Address(BaseModel):
    """A definition of its own in the schema."""

    model_config = ConfigDict(extra="forbid")

    street: str = Field(default="", description="Street.")
    city: str = Field(default="", description="City.")


class Person(BaseModel):
    """The arguments of the tool below."""

    model_config = ConfigDict(extra="forbid")

    name: str = Field(default="", description="Name.")
    address: Address = Field(default_factory=Address, description="Where to.")


@fixtures.tool(Permission.READ)
def json_schema_2020_12_tool(call: Call, spec: Person) -> CallToolResult:
    """A nested schema."""
    return content(note(spec.model_dump_json()))


def add_resources(server: TuningServer) -> None:
    """The resources that the suite reads."""

    @server.resource("test://static-text", mime_type="text/plain")
    def static_text() -> str:
        return "This is the content of the static text resource."

    @server.resource("test://static-binary", mime_type="image/png")
    def static_binary() -> bytes:
        return base64.b64decode(PIXEL)

    @server.resource("test://watched-resource", mime_type="text/plain")
    def watched_resource() -> str:
        return "Watched resource content"

    @server.resource("test://template/{id}/data", mime_type="application/json")
    def template(id: str) -> str:  # noqa: A002 - the suite's name
        return json.dumps({"id": id, "templateTest": True, "data": f"Data for ID: {id}"})


def add_prompts(server: TuningServer) -> None:
    """The prompts that the suite gets, and completions for their arguments."""

    @server.prompt()
    def test_simple_prompt() -> list[UserMessage]:
        """Without arguments."""
        return [UserMessage("This is a simple prompt for testing.")]

    @server.prompt()
    def test_prompt_with_arguments(arg1: str, arg2: str) -> list[UserMessage]:
        """With two arguments."""
        return [UserMessage(f"Prompt with arguments: arg1='{arg1}', arg2='{arg2}'")]

    @server.prompt()
    def test_prompt_with_embedded_resource(resourceUri: str) -> list[UserMessage]:  # noqa: N803 - the suite's name
        """With a resource inside."""
        resource = embedded(resourceUri, "Embedded resource content for testing.")
        return [UserMessage(resource), UserMessage("Please process the embedded resource above.")]

    @server.prompt()
    def test_prompt_with_image() -> list[UserMessage]:
        """With an image."""
        return [UserMessage(image()), UserMessage("Please analyze the image above.")]

    @server.completion()  # type: ignore[no-untyped-call, untyped-decorator]  # the SDK's is untyped
    async def complete(*_: object) -> Completion:
        return Completion(values=["paris", "park", "party"], total=3, has_more=False)


class FixtureServer(TuningServer):
    """The product's server; the tools beside its own are the SDK's to list and call."""

    async def list_tools(self) -> list[ListedTool]:
        """The product's tools, then those beside them."""
        beside = [tool for tool in await MCPServer.list_tools(self) if tool.name in BESIDE]
        return [*await super().list_tools(), *beside]

    async def call_tool(  # type: ignore[override]  # the product never asks
        self, name: str, arguments: Mapping[str, Any], context: Context[Any, Any] | None = None
    ) -> CallToolResult | InputRequiredResult:
        """The result of a tool, or what the client has to answer first."""
        if name in BESIDE:
            return await MCPServer.call_tool(self, name, dict(arguments), context)
        return await super().call_tool(name, arguments, context)


def furnish(server: TuningServer) -> None:
    """Put all that the suite asks for beside what the product's server has."""
    server.__class__ = FixtureServer  # build_server is under test: it makes the server, with its options
    for tool in BESIDE.values():
        server.add_tool(tool)
    add_resources(server)
    add_prompts(server)
    questions.add_prompts(server)
    notices.add_handlers(server)


def main(port: int, *, sessions: bool) -> None:
    """Serve the fixtures beside the product's tools, with HTTP sessions or as the product does: without."""
    logs.configure("error")
    warnings.simplefilter("ignore", MCPDeprecationWarning)  # the older revision asks for what the newer one deprecates
    with tempfile.TemporaryDirectory() as folder:
        settings = Settings(workspace=Path(folder), port=port, toolsets=("conformance", "tuning", "tracking"))
        with Workspace(settings) as workspace:
            server = build_server(workspace, toolsets=(fixtures, *TOOLSETS))
            furnish(server)
            listening = listen(settings)
            web = WebServer(application(server, "http", addresses(settings, listening)))
            server.session_manager.stateless = not sessions
            anyio.run(partial(web.serve, sockets=[listening]))


if __name__ == "__main__":
    main(int(sys.argv[1]), sessions="--sessions" in sys.argv[2:])
