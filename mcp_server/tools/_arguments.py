"""Arguments of a tool: what it accepts, and one sentence about everything that does not fit."""

from collections.abc import Mapping
from typing import Any, ClassVar

from pydantic import BaseModel, ConfigDict, JsonValue, ValidationError, create_model

from mcp_server.errors import InvalidRequestError
from mcp_server.tools._problems import sentences
from mcp_server.tools._reading import Reading
from mcp_server.tools._schemas import Node, compact

SHOWN_PROBLEMS = 5


class InvalidArgumentsError(InvalidRequestError):
    """The arguments of a tool call do not fit the tool."""

    code: ClassVar[str] = "invalid_arguments"


class Arguments:
    """The arguments of one tool: a pydantic model, its schema, and the rules pydantic does not have.

    Those are: no boolean where a number belongs, numbers finite and within 64 bits, valid text, bounded size and depth.
    Numbers written as text are read, and so are objects and lists written as JSON text, because some hosts send them.

    Raises:
        TypeError: If a model among the arguments takes fields it does not know, which would drop a misspelt one.
    """

    def __init__(self, tool: str, model: type[BaseModel]) -> None:
        self._tool = tool
        self._model = model
        full = model.model_json_schema()
        _check_closed(tool, full)
        self._root = Node.of(full)
        published = {key: value for key, value in full.items() if key != "description"}
        self.schema = {"properties": {}, **compact(published)}

    @classmethod
    def of_parameters(cls, tool: str, parameters: Mapping[str, tuple[Any, Any]]) -> "Arguments":
        """The arguments of a function: annotation and default (`...` for none) by parameter name."""
        config = ConfigDict(extra="forbid", allow_inf_nan=False)
        model: type[BaseModel] = create_model(tool, __config__=config, **dict(parameters))  # type: ignore[call-overload]
        return cls(tool, model)

    def parse(self, raw: Mapping[str, object]) -> BaseModel:
        """The model made of what a client sent.

        Raises:
            InvalidArgumentsError: If anything does not fit; it says all that is wrong, up to five sentences.
        """
        reading = Reading()
        prepared = reading.value(dict(raw), self._root)
        if reading.problems:
            raise self._refusal(reading.problems)
        try:
            return self._model.model_validate(prepared)
        except ValidationError as exc:
            problems = sentences(exc.errors(include_url=False), self._root, self._tool)
            raise self._refusal(problems) from exc

    def _refusal(self, problems: list[str]) -> InvalidArgumentsError:
        hidden = len(problems) - SHOWN_PROBLEMS
        text = " ".join([*problems[:SHOWN_PROBLEMS], *([f"And {hidden} more problems."] if hidden > 0 else [])])
        return InvalidArgumentsError(text, hint=f"Correct this and call {self._tool} again.")


def _check_closed(tool: str, schema: JsonValue) -> None:
    if isinstance(schema, list):
        for part in schema:
            _check_closed(tool, part)
    elif isinstance(schema, dict):
        if (
            "properties" in schema
            and schema.get("type") == "object"
            and schema.get("additionalProperties") is not False
        ):
            raise TypeError(f"{tool}: the model {schema.get('title')} must set extra='forbid'")
        for part in schema.values():
            _check_closed(tool, part)
