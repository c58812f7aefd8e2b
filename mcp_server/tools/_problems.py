"""What is wrong with arguments, in sentences that a model can act on."""

import json
import math
from collections.abc import Callable, Mapping, Sequence
from difflib import get_close_matches

from pydantic import JsonValue
from pydantic_core import ErrorDetails

from mcp_server.tools._schemas import Node
from mcp_server.types import shown

Path = tuple[str | int, ...]

_KINDS = {
    "string_type": "text",
    "bool_type": "true or false",
    "bool_parsing": "true or false",
    "dict_type": "an object",
    "model_type": "an object",
    "model_attributes_type": "an object",
    "list_type": "a list",
    "tuple_type": "a list",
}
_EXAMPLES: dict[str, JsonValue] = {"string": "text", "boolean": True, "array": [], "object": {}, "number": 1}
_NAMES_SHOWN = 400
_DIGITS_SHOWN = 20


def sentences(errors: Sequence[ErrorDetails], root: Node, tool: str) -> list[str]:
    """One sentence for each place that pydantic refused; the members of a union share one."""
    by_place: dict[Path, list[tuple[str, bool]]] = {}
    values: dict[Path, object] = {}
    for error in errors:
        path, node, parent = _placed(error, root)
        phrase, with_value = _phrase(error, path, node, parent, tool)
        by_place.setdefault(path, []).append((phrase, with_value))
        values[path] = error["input"]
    return [_sentence(path, phrases, values[path]) for path, phrases in by_place.items()]


def located(path: Path) -> str:
    """Where in the arguments something is.

    >>> located(("search_space", "C", "low")), located(("drop", 3))
    ('search_space.C.low', 'drop[3]')
    """
    text = "".join(f"[{part}]" if isinstance(part, int) else f".{shown(part)}" for part in path)
    return text.removeprefix(".")


def as_sent(value: object) -> str:
    """A value as the client wrote it, capped.

    >>> as_sent(None), as_sent("five"), as_sent(10**400)
    ('null', '"five"', 'a number with 401 digits')
    """
    if isinstance(value, int) and not isinstance(value, bool) and abs(value) >= 10**_DIGITS_SHOWN:
        return f"a number with {int(math.log10(abs(value))) + 1} digits"
    return shown(json.dumps(value, ensure_ascii=False, default=str))


def allowed_range(node: Node | None) -> str:
    """What numbers may stand at a place of the schema.

    >>> allowed_range(Node.of({"type": "integer", "minimum": 1, "maximum": 100000}))
    'a whole number from 1 to 100,000'
    """
    whole = node is not None and "integer" in node.types and "number" not in node.types
    kind = "a whole number" if whole else "a number"
    if node is None:
        return f"{kind} of at most 64 bits"
    least, most = node.bound("minimum"), node.bound("maximum")
    above, below = node.bound("exclusiveMinimum"), node.bound("exclusiveMaximum")
    if least is not None and most is not None:
        return f"{kind} from {least:,} to {most:,}"
    limits = {"above": above, "of at least": least, "below": below, "of at most": most}
    stated = [f"{word} {limit:,}" for word, limit in limits.items() if limit is not None]
    return f"{kind} {' and '.join(stated) or 'of at most 64 bits'}"


def _placed(error: ErrorDetails, root: Node) -> tuple[Path, Node | None, Node | None]:
    """The place without the tags that pydantic puts in for members of unions, its schema, and its parent's schema."""
    path: list[str | int] = []
    node: Node | None = root
    parent: Node | None = None
    *_, last = (None, *range(len(error["loc"])))
    for i, part in enumerate(error["loc"]):
        child = node.child(part) if node else None
        unknown_name = error["type"] == "extra_forbidden" and i == last
        if child is not None or node is None or isinstance(part, int) or unknown_name or not node.structured:
            path.append(part)
            node, parent = child, node
    return tuple(path), node, parent


def _phrase(error: ErrorDetails, path: Path, node: Node | None, parent: Node | None, tool: str) -> tuple[str, bool]:
    """What to say about a place, and whether the value should follow."""
    kind = error["type"]
    if kind == "extra_forbidden":
        return _unknown(path, parent, tool), False
    if kind == "missing":
        return f" is required, e.g. {json.dumps({str(error['loc'][-1]): _example(node)}, ensure_ascii=False)}", False
    context = error.get("ctx", {})
    if kind in _KINDS:
        return f" must be {_KINDS[kind]}", True
    if maker := _MAKERS.get(kind):
        return maker(node, context, error["input"]), kind not in _SIZES
    message = error["msg"].removeprefix("Value error, ").removeprefix("Assertion failed, ")
    return f": {message[:1].lower()}{message[1:]}", bool(path) and "got " not in message


def _sentence(path: Path, phrases: Sequence[tuple[str, bool]], value: object) -> str:
    first, *others = dict.fromkeys(phrase.rstrip(".") for phrase, _ in phrases)
    text = " or".join([first, *(other.removeprefix(" must be") for other in others)])
    got = f", got {as_sent(value)}" if all(with_value for _, with_value in phrases) else ""
    end = "" if f"{text}{got}".endswith("?") else "."
    sentence = f"{located(path)}{text}{got}{end}".removeprefix(": ")
    return sentence if path else sentence[:1].upper() + sentence[1:]


def _unknown(path: Path, parent: Node | None, tool: str) -> str:
    known = list(parent.properties) if parent else []
    what = f" is not an argument of {tool}" if len(path) == 1 else " is not known"
    if near := get_close_matches(str(path[-1]), known, 1):
        return f"{what}; did you mean {near[0]}?"
    return f"{what}; known: {shown(', '.join(known), _NAMES_SHOWN)}" if known else what


def _example(node: Node | None) -> JsonValue:
    if node is None:
        return "..."
    if node.choices:
        return node.choices[0]
    if "integer" in node.types:
        return max(1, int(node.bound("minimum") or 1))
    return next((_EXAMPLES[kind] for kind in _EXAMPLES if kind in node.types), "...")


def _number(node: Node | None, _context: Mapping[str, object], _value: object) -> str:
    return f" must be {allowed_range(node)}"


def _choice(node: Node | None, context: Mapping[str, object], value: object) -> str:
    choices = [str(c) for c in node.choices] if node else []
    known = ", ".join(choices) or str(context.get("expected_tags", context.get("expected", ""))).replace("'", "")
    tag = str(context.get("tag", value))
    near = get_close_matches(tag, known.replace(" or ", ", ").split(", "), 1)
    return f" must be one of {known}" + (f" (did you mean {near[0]}?)" if near else "")


def _length(_node: Node | None, context: Mapping[str, object], value: object) -> str:
    unit = "characters" if isinstance(value, str) else "items"
    size = len(value) if isinstance(value, str | list | dict | tuple) else "more"
    limits = [f"at {word} {context[key]:,}" for key, word in _LENGTHS.items() if key in context]
    return f" must have {' and '.join(limits)} {unit}, this one has {size}"


def _pattern(_node: Node | None, context: Mapping[str, object], _value: object) -> str:
    return f" must match {context['pattern']}"


_LENGTHS = {"min_length": "least", "max_length": "most"}
_SIZES = frozenset({"string_too_long", "string_too_short", "too_long", "too_short"})
_Maker = Callable[[Node | None, Mapping[str, object], object], str]
_MAKERS: dict[str, _Maker] = {
    **dict.fromkeys(
        (
            *("int_type", "int_parsing", "int_parsing_size", "int_from_float"),
            *("float_type", "float_parsing", "finite_number"),
            *("greater_than", "greater_than_equal", "less_than", "less_than_equal"),
        ),
        _number,
    ),
    **dict.fromkeys(("literal_error", "enum", "union_tag_invalid", "union_tag_not_found"), _choice),
    **dict.fromkeys(_SIZES, _length),
    "string_pattern_mismatch": _pattern,
}
