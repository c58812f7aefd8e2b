"""Schemas of nested arguments, as short as a host can still check them: every conversation pays for the list of tools.

Names and types are listed, so that hosts and models write the right ones; bounds and explanations are in the reference,
and in the error when a value does not fit.
"""

from pydantic import BaseModel
from pydantic.json_schema import JsonSchemaValue


def compact(model: type[BaseModel]) -> JsonSchemaValue:
    """The names and types of the fields of `model`."""
    return {"type": "object", "properties": _fields(model), "additionalProperties": False}


def either(*models: type[BaseModel]) -> JsonSchemaValue:
    """Something given by its type's name alone, or as an object with any of the models' options."""
    options: JsonSchemaValue = {}
    names = []
    for model in models:
        own = _fields(model)
        names.append(model.model_fields["type"].default)
        options |= {name: option for name, option in own.items() if name != "type"}
    kinds = {"type": "string", "enum": names}
    whole = {
        "type": "object",
        "properties": {"type": kinds, **options},
        "required": ["type"],
        "additionalProperties": False,
    }
    return {"anyOf": [kinds, whole]}


def named(value: object) -> object:
    """The object that a type's name alone stands for; anything else as it is."""
    return {"type": value} if isinstance(value, str) else value


def _fields(model: type[BaseModel]) -> JsonSchemaValue:
    return {name: _bare(field) for name, field in model.model_json_schema()["properties"].items()}


def _bare(field: JsonSchemaValue) -> JsonSchemaValue:
    options = [option for option in field.get("anyOf", [field]) if option.get("type") != "null"]
    return {key: value for key, value in options[0].items() if key in {"type", "enum", "format"}}
