"""Fixtures that ask the client: during a call (2025-11-25), and as the result of one (2026-07-28)."""

from typing import Any

from mcp import MCPError
from mcp.server import MCPServer
from mcp.server.mcpserver import Context
from mcp.server.mcpserver.prompts.base import UserMessage
from mcp.types import (
    MISSING_REQUIRED_CLIENT_CAPABILITY,
    ClientCapabilities,
    CreateMessageRequest,
    CreateMessageRequestParams,
    ElicitRequest,
    ElicitRequestFormParams,
    ElicitResult,
    InputRequest,
    InputRequiredResult,
    ListRootsRequest,
    MissingRequiredClientCapabilityErrorData,
    SamplingCapability,
    SamplingMessage,
    TextContent,
)

Schema = dict[str, Any]
Answer = str | InputRequiredResult

STRING: Schema = {"type": "string"}
STATES = ["active", "inactive", "pending"]

DEFAULTS: Schema = {
    "name": {"type": "string", "default": "John Doe"},
    "age": {"type": "integer", "default": 30},
    "score": {"type": "number", "default": 95.5},
    "status": {"type": "string", "enum": STATES, "default": "active"},
    "verified": {"type": "boolean", "default": True},
}


def titled(*names: str) -> list[Schema]:
    """Choices that have a title each."""
    return [{"const": name, "title": name.title()} for name in names]


ENUMS: Schema = {
    "untitledSingle": {"type": "string", "enum": STATES},
    "titledSingle": {"type": "string", "oneOf": titled("low", "medium", "high")},
    "legacyEnum": {"type": "string", "enum": STATES, "enumNames": [state.title() for state in STATES]},
    "untitledMulti": {"type": "array", "items": {"type": "string", "enum": ["read", "write"]}},
    "titledMulti": {"type": "array", "items": {"anyOf": titled("feature", "bug", "docs")}},
}


def form(properties: Schema, *required: str) -> Schema:
    """A form with these fields."""
    return {"type": "object", "properties": properties, "required": list(required)}


async def filled(context: Context, message: str, schema: Schema) -> str:
    """What the client's user answers to a form during the call."""
    result = await context.session.elicit_form(message, schema, related_request_id=context.request_id)
    return f"action={result.action}, content={result.content}"


async def test_sampling(prompt: str, ctx: Context) -> str:
    """Asks the client's model during the call."""
    message = SamplingMessage(role="user", content=TextContent(type="text", text=prompt))
    result = await ctx.session.create_message([message], max_tokens=100, related_request_id=ctx.request_id)
    return f"LLM response: {result.content}"


async def test_elicitation(message: str, ctx: Context) -> str:
    """Asks the client's user during the call."""
    schema = form({"username": STRING, "email": STRING}, "username", "email")
    return f"User response: {await filled(ctx, message, schema)}"


async def test_elicitation_sep1034_defaults(ctx: Context) -> str:
    """Asks with a default of every primitive type."""
    return f"Elicitation completed: {await filled(ctx, 'Who are you?', form(DEFAULTS))}"


async def test_elicitation_sep1330_enums(ctx: Context) -> str:
    """Asks with every kind of choice."""
    return f"Elicitation completed: {await filled(ctx, 'Which ones?', form(ENUMS))}"


def elicit(message: str, field: str, schema: Schema = STRING) -> ElicitRequest:
    """A form with one field, as part of a result."""
    params = ElicitRequestFormParams(message=message, requested_schema=form({field: schema}, field))
    return ElicitRequest(params=params)


def sample(prompt: str) -> CreateMessageRequest:
    """A question for the client's model, as part of a result."""
    message = SamplingMessage(role="user", content=TextContent(type="text", text=prompt))
    return CreateMessageRequest(params=CreateMessageRequestParams(messages=[message], max_tokens=100))


def ask(context: Context, requests: dict[str, InputRequest], state: str | None = None) -> InputRequiredResult | None:
    """The questions, None once all of them are answered and the state has come back."""
    answers = context.input_responses or {}
    if requests.keys() <= answers.keys() and context.request_state == state:
        return None
    return InputRequiredResult(input_requests=requests, request_state=state)


async def test_input_required_result_elicitation(ctx: Context) -> Answer:
    """Needs a name."""
    if asked := ask(ctx, {"user_name": elicit("What is your name?", "name")}):
        return asked
    answer = (ctx.input_responses or {})["user_name"]
    return f"Hello, {(answer.content or {}).get('name')}!" if isinstance(answer, ElicitResult) else "Hello!"


async def test_input_required_result_sampling(ctx: Context) -> Answer:
    """Needs the client's model."""
    asked = ask(ctx, {"capital_question": sample("What is the capital of France?")})
    return asked or str((ctx.input_responses or {})["capital_question"])


async def test_input_required_result_list_roots(ctx: Context) -> Answer:
    """Needs the client's folders."""
    return ask(ctx, {"client_roots": ListRootsRequest()}) or str((ctx.input_responses or {})["client_roots"])


async def test_input_required_result_request_state(ctx: Context) -> Answer:
    """Needs a confirmation and its own state back."""
    return ask(ctx, {"confirm": elicit("Please confirm", "ok", {"type": "boolean"})}, "asked") or "state-ok"


async def test_input_required_result_multiple_inputs(ctx: Context) -> Answer:
    """Needs three kinds of answers at once."""
    requests: dict[str, InputRequest] = {
        "user_name": elicit("What is your name?", "name"),
        "greeting": sample("Generate a greeting"),
        "client_roots": ListRootsRequest(),
    }
    return ask(ctx, requests, "asked") or "All answered."


async def test_input_required_result_multi_round(ctx: Context) -> Answer:
    """Needs two answers, one after the other."""
    if ctx.request_state in {"first", "second"}:
        return (
            ask(ctx, {"step2": elicit("Step 2: What is your favorite color?", "color")}, "second") or "Both answered."
        )
    return ask(ctx, {"step1": elicit("Step 1: What is your name?", "name")}, "first") or "Both answered."


async def test_input_required_result_tampered_state(ctx: Context) -> Answer:
    """Leaves the check of its state to the SDK, which seals it."""
    return ask(ctx, {"confirm": elicit("Please confirm", "ok", {"type": "boolean"})}, "sealed") or "state-ok"


async def test_input_required_result_capabilities(ctx: Context) -> Answer:
    """Asks only for what the client says it can answer."""
    able = ctx.client_capabilities or ClientCapabilities()
    requests: dict[str, InputRequest] = {}
    if able.sampling is not None:
        requests["greeting"] = sample("Generate a greeting")
    if able.elicitation is not None:
        requests["user_name"] = elicit("What is your name?", "name")
    return (ask(ctx, requests) if requests else None) or "Nothing to ask."


async def test_streaming_elicitation(ctx: Context) -> Answer:
    """Asks in its result, not on its stream."""
    return ask(ctx, {"user_name": elicit("What is your name?", "name")}) or "Answered."


async def test_missing_capability(ctx: Context) -> str:
    """Needs a client that has a model.

    Raises:
        MCPError: If it says of none.
    """
    if ctx.client_capabilities is None or ctx.client_capabilities.sampling is None:
        needed = ClientCapabilities(sampling=SamplingCapability())
        data = MissingRequiredClientCapabilityErrorData(required_capabilities=needed)
        raise MCPError(
            MISSING_REQUIRED_CLIENT_CAPABILITY,
            "The client has declared no sampling.",
            data.model_dump(by_alias=True, mode="json", exclude_none=True),
        )
    return "The client has a model."


TOOLS = (
    test_sampling,
    test_elicitation,
    test_elicitation_sep1034_defaults,
    test_elicitation_sep1330_enums,
    test_input_required_result_elicitation,
    test_input_required_result_sampling,
    test_input_required_result_list_roots,
    test_input_required_result_request_state,
    test_input_required_result_multiple_inputs,
    test_input_required_result_multi_round,
    test_input_required_result_tampered_state,
    test_input_required_result_capabilities,
    test_streaming_elicitation,
    test_missing_capability,
)


def add_prompts(server: MCPServer[Any]) -> None:
    """The prompt that asks before it answers."""

    @server.prompt()
    async def test_input_required_result_prompt(ctx: Context) -> list[UserMessage] | InputRequiredResult:
        """Needs a context."""
        asked = ask(ctx, {"user_context": elicit("What context should the prompt use?", "context")})
        return asked or [UserMessage(str((ctx.input_responses or {})["user_context"]))]
