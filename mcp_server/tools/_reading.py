"""The first pass over arguments: text that holds a number or JSON is read, what can be no argument is refused."""

import json
import math
from dataclasses import dataclass, field

from mcp_server.tools._problems import Path, allowed_range, as_sent, located
from mcp_server.tools._schemas import Node

DEPTH_LIMIT = 50
VALUE_LIMIT = 200_000
INTEGER_LIMIT = 2**63


@dataclass
class Reading:
    """The problems of one call's arguments that pydantic would let through."""

    problems: list[str] = field(default_factory=list)
    count: int = 0

    def value(self, raw: object, node: Node | None, path: Path = ()) -> object:
        """`raw` as pydantic should see it."""
        self.count += 1
        if len(path) > DEPTH_LIMIT:
            return self._refuse(path[:1], f"is nested deeper than {DEPTH_LIMIT} levels.")
        if self.count == VALUE_LIMIT:
            return self._refuse(path[:1], f"holds more than {VALUE_LIMIT:,} values.")
        if isinstance(raw, str):
            raw = self._text(raw, node, path)
        if isinstance(raw, dict):
            return self._object(raw, node, path)
        if isinstance(raw, list):
            return self._list(raw, node, path)
        return self._scalar(raw, node, path)

    def _scalar(self, raw: object, node: Node | None, path: Path) -> object:
        match raw:
            case bool():
                return self._boolean(raw, node, path)
            case int() if abs(raw) >= INTEGER_LIMIT:
                return self._refuse(path, f"must be {allowed_range(node)}, got {as_sent(raw)}.")
            case float() if not math.isfinite(raw):
                return self._refuse(path, f"must be a finite number, got {raw}.")
            case _:
                return raw

    def _refuse(self, path: Path, problem: str) -> object:
        self.problems.append(f"{located(path) or 'The call'} {problem}")
        return None

    def _object(self, raw: dict[str, object], node: Node | None, path: Path) -> object:
        result = {}
        for key, value in raw.items():
            if self.count >= VALUE_LIMIT:
                break
            if _broken(key):
                return self._refuse((*path, key), "is not valid text: it holds half of a surrogate pair.")
            result[key] = self.value(value, node.child(key) if node else None, (*path, key))
        return result

    def _list(self, raw: list[object], node: Node | None, path: Path) -> object:
        limit = node.bound("maxItems") if node else None
        if limit is not None and len(raw) > limit:
            return self._refuse(path, f"must have at most {limit:,} items, this one has {len(raw):,}.")
        item, result = node.child(0) if node else None, []
        for i, value in enumerate(raw):
            if self.count >= VALUE_LIMIT:
                break
            result.append(self.value(value, item, (*path, i)))
        return result

    def _boolean(self, raw: bool, node: Node | None, path: Path) -> object:  # noqa: FBT001 - a value
        types = node.types if node else frozenset()
        if types & {"integer", "number"} and "boolean" not in types:
            return self._refuse(path, f"must be {allowed_range(node)}, got {as_sent(raw)}.")
        return raw

    def _text(self, raw: str, node: Node | None, path: Path) -> object:
        if _broken(raw):
            return self._refuse(path, "is not valid text: it holds half of a surrogate pair.")
        if node is None:
            return raw
        if raw.lstrip()[:1] in {"{", "["} and node.types & {"object", "array"}:
            return _parsed(raw)
        if node.types & {"integer", "number"} and "string" not in node.types:
            return self._number_text(raw, node, path)
        return raw

    def _number_text(self, raw: str, node: Node, path: Path) -> object:
        try:
            number = float(raw)
        except ValueError:
            return raw
        if not math.isfinite(number):
            return self._refuse(path, f"must be a finite number, got {as_sent(raw)}.")
        if "number" not in node.types and "e" in raw.lower() and number.is_integer() and abs(number) < INTEGER_LIMIT:
            return self._refuse(path, f"must be written as a whole number: {int(number)} instead of {as_sent(raw)}.")
        return raw


def _broken(text: str) -> bool:
    return not text.isascii() and any("\ud800" <= c <= "\udfff" for c in text)


def _parsed(text: str) -> object:
    """Some hosts send objects and lists as JSON text; what is not JSON is left to validation."""
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        return text
