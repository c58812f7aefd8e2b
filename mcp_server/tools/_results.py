"""Answers of tools as clients get them: the same data as compact text and as structured content."""

from collections.abc import Mapping
from typing import ClassVar

from mcp.types import CallToolResult, TextContent
from pydantic import BaseModel
from pydantic_core import from_json, to_json

from mcp_server.errors import InvalidRequestError, WorkspaceError

CHARACTER_LIMIT = 40_000  # hosts cut or drop longer ones: Claude Code at 50,000 characters

Answer = BaseModel | Mapping[str, object] | CallToolResult


class ResultTooLargeError(InvalidRequestError):
    """The answer is longer than hosts hand to a model."""

    code: ClassVar[str] = "result_too_large"


def success(answer: Answer) -> CallToolResult:
    """`answer` as a result: hosts differ in which of text and structured content the model sees, so both have it all.

    A `CallToolResult`, as tools that draw make it, is passed on as it is.

    Raises:
        ResultTooLargeError: If it is longer than hosts hand to a model.
    """
    if isinstance(answer, CallToolResult):
        return answer
    encoded = to_json(answer, exclude_none=True, inf_nan_mode="null", by_alias=True)
    text = encoded.decode()
    if len(text) > CHARACTER_LIMIT:
        raise ResultTooLargeError(
            f"The answer has {len(text):,} characters, {CHARACTER_LIMIT:,} are allowed.",
            hint="Ask for fewer rows (limit=) or fewer columns.",
        )
    return CallToolResult(content=[TextContent(type="text", text=text)], structured_content=from_json(encoded))


def failure(error: WorkspaceError) -> CallToolResult:
    """`error` as a result whose text is all that some hosts show: what is wrong, and the next step."""
    text = str(error).encode("utf-8", "replace").decode()
    details = {"code": error.code, "hint": error.hint, "retryable": error.retryable}
    return CallToolResult(is_error=True, content=[TextContent(type="text", text=text)], _meta={"error": details})
