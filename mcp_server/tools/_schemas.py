"""JSON schemas of arguments: reading them while arguments are checked, and writing them small for clients."""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Self, cast

from pydantic import JsonValue

from mcp_server.types import JsonObject

_DEFINITION = "#/$defs/"
_TYPE_OF = {bool: "boolean", int: "integer", float: "number", str: "string", type(None): "null"}


@dataclass(frozen=True)
class Node:
    """One place in a schema: the alternatives of what may stand there.

    >>> node = Node.of({"properties": {"n": {"anyOf": [{"type": "integer", "minimum": 1}, {"type": "null"}]}}})
    >>> sorted(node.child("n").types), node.child("n").bound("minimum"), node.child("m")
    (['integer', 'null'], 1, None)
    """

    alternatives: tuple[JsonObject, ...]
    definitions: Mapping[str, JsonObject]

    @classmethod
    def of(cls, schema: JsonObject) -> Self:
        """The root of a schema with its own `$defs`."""
        definitions = cast("dict[str, JsonObject]", schema.get("$defs", {}))
        return cls(tuple(_flattened(schema, definitions)), definitions)

    @cached_property
    def types(self) -> frozenset[str]:
        """JSON types that may stand here; empty when anything may."""
        found = [set(_types(alternative)) for alternative in self.alternatives]
        return frozenset().union(*found) if found and all(found) else frozenset()

    @cached_property
    def properties(self) -> dict[str, list[JsonObject]]:
        """The schemas of each named property, over all alternatives."""
        merged: dict[str, list[JsonObject]] = {}
        for alternative in self.alternatives:
            for name, schema in cast("dict[str, Any]", alternative.get("properties", {})).items():
                merged.setdefault(name, []).append(schema)
        return merged

    def child(self, key: str | int) -> "Node | None":
        """What may stand under a property or an index; None when the schema does not know it."""
        if isinstance(key, int):
            return self._items
        return self._children.get(key, self._others)

    @cached_property
    def _children(self) -> "dict[str, Node | None]":
        return {name: self._node(schemas) for name, schemas in self.properties.items()}

    @cached_property
    def _others(self) -> "Node | None":
        return self._node([s for a in self.alternatives if isinstance(s := a.get("additionalProperties"), dict)])

    @cached_property
    def _items(self) -> "Node | None":
        return self._node([s for a in self.alternatives if isinstance(s := a.get("items"), dict)])

    def _node(self, schemas: list[JsonObject]) -> "Node | None":
        """The alternatives of all schemas in one node: cached by the callers, since large arguments ask often."""
        flat = tuple(f for schema in schemas for f in _flattened(schema, self.definitions))
        return Node(flat, self.definitions) if flat else None

    def bound(self, keyword: str) -> Any:  # noqa: ANN401 - a number, or None
        """The value of `minimum`, `maxItems` and the like in the first alternative that has it."""
        return next((a[keyword] for a in self.alternatives if keyword in a), None)

    @property
    def structured(self) -> bool:
        """Whether the schema lists what may be inside, or several kinds of values may stand here."""
        return bool(self.properties) or len(self.alternatives) > 1

    @property
    def choices(self) -> list[JsonValue]:
        """The values that are allowed, when they are listed."""
        return [value for a in self.alternatives for value in _listed(a)]


def _flattened(schema: JsonObject, definitions: Mapping[str, JsonObject]) -> Iterator[JsonObject]:
    if isinstance(reference := schema.get("$ref"), str):
        yield from _flattened(definitions[reference.removeprefix(_DEFINITION)], definitions)
        return
    inner = [
        cast("JsonObject", s) for key in ("anyOf", "oneOf", "allOf") for s in cast("list[Any]", schema.get(key, []))
    ]
    if not inner:
        yield schema
    for alternative in inner:
        yield from _flattened(alternative, definitions)


def _types(schema: JsonObject) -> Iterable[str]:
    declared = schema.get("type")
    if isinstance(declared, str):
        return [declared]
    if isinstance(declared, list):
        return cast("list[str]", declared)
    return [_TYPE_OF[type(value)] for value in _listed(schema) if type(value) in _TYPE_OF]


def _listed(schema: JsonObject) -> list[JsonValue]:
    return [schema["const"]] if "const" in schema else cast("list[JsonValue]", schema.get("enum", []))


def compact(schema: JsonObject) -> JsonObject:
    """`schema` as clients get it: every conversation pays for its bytes.

    Titles that pydantic derives from names, OpenAPI discriminators and a null that only means "omitted" are left out;
    a definition that is used once stands where it is used.

    >>> compact({"properties": {"title": {"title": "Title", "anyOf": [{"type": "string"}, {"type": "null"}],
    ...          "default": None}}, "title": "Arguments"})
    {'properties': {'title': {'type': 'string'}}}
    """
    definitions = cast("dict[str, JsonObject]", schema.get("$defs", {}))
    uses = _references(schema)
    once = {name: s for name, s in definitions.items() if uses.count(name) == 1}
    kept = {name: _compacted(s, once) for name, s in definitions.items() if name not in once}
    body = cast("JsonObject", _compacted({k: v for k, v in schema.items() if k != "$defs"}, once))
    return {**body, "$defs": kept} if kept else body


def _references(schema: object) -> list[str]:
    if isinstance(schema, list):
        return [name for part in schema for name in _references(part)]
    if not isinstance(schema, dict):
        return []
    own = schema.get("$ref")
    inner = [name for key, part in schema.items() if key != "discriminator" for name in _references(part)]
    return [own.removeprefix(_DEFINITION), *inner] if isinstance(own, str) else inner


def _compacted(schema: JsonValue, once: Mapping[str, JsonObject]) -> JsonValue:
    if isinstance(schema, list):
        return [_compacted(part, once) for part in schema]
    if not isinstance(schema, dict):
        return schema
    schema = _without_null(schema)
    if isinstance(reference := schema.get("$ref"), str) and (name := reference.removeprefix(_DEFINITION)) in once:
        rest = {key: value for key, value in schema.items() if key != "$ref"}
        return _compacted({**once[name], **rest}, once)
    result: JsonObject = {}
    for key, value in schema.items():
        if key in {"properties", "patternProperties"} and isinstance(value, dict):
            result[key] = {name: _compacted(entry, once) for name, entry in value.items()}
        elif not _superfluous(key, schema):
            result[key] = value if key in {"default", "enum", "const", "examples"} else _compacted(value, once)
    return result


def _superfluous(key: str, schema: JsonObject) -> bool:
    if key == "default":
        return "const" in schema
    return key == "discriminator" or (key == "title" and isinstance(schema[key], str))


def _without_null(schema: JsonObject) -> JsonObject:
    alternatives = schema.get("anyOf")
    if schema.get("default", ...) is not None or not isinstance(alternatives, list):
        return schema
    rest = [a for a in alternatives if a != {"type": "null"}]
    kept: JsonObject = {key: value for key, value in schema.items() if key not in {"anyOf", "default"}}
    if len(rest) == 1 and isinstance(only := rest[0], dict):
        return {**only, **kept}
    return {**kept, "anyOf": rest}
