"""Parameters that somebody asks a study to try: whether they are a point of its space, and whether that is new."""

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from difflib import get_close_matches

from mcp_server.distributions import Categorical, Distribution, Fixed, Float, Int
from mcp_server.errors import ConflictError, InvalidRequestError
from mcp_server.studies.space import SearchSpace, brief
from mcp_server.studies.spec import did_you_mean
from mcp_server.types import Params, Scalar, shown

NEAR = 0.01
"""Two points are near when they differ by at most this share of the range in every number, and in no choice."""


@dataclass(frozen=True)
class Tried:
    """A point that a study knows, and what to call it."""

    params: Params
    called: str


def checked(space: SearchSpace, asked: Params, fixed: Params) -> Params:
    """The point of the space that `asked` names, with the values as the space writes them.

    Raises:
        InvalidRequestError: If a parameter is unknown, missing, does not exist beside the others or lies outside; it
            names all that is wrong, with the nearest name, bound or choice.
    """
    problems = [_unknown(name, space, fixed) for name in asked if name not in space.root]
    point: Params = {}
    wrong: set[str] = set()
    for name, entry in space.ordered():
        if not space.active(name, point):
            if name in asked and not (entry.when.keys() & wrong):
                problems.append(f"{name} exists only when {_condition(entry)}")
        elif name in asked or isinstance(entry, Fixed):
            point[name] = value = _written(entry, asked.get(name, getattr(entry, "value", None)))
            if not entry.contains(value):
                wrong.add(name)
                problems.append(f"{name} is {shown(value)}, but is {brief(entry)}{_nearest(entry, value)}")
        else:
            problems.append(f"{name} is missing; it is {brief(entry)}")
    if problems:
        raise InvalidRequestError(
            f"This is no point of the search space: {'; '.join(problems[:5])}.", hint="Give every parameter a value."
        )
    return {name: point[name] for name in space.root if name in point}


def refuse_repeated(space: SearchSpace, point: Params, known: Iterable[Tried]) -> None:
    """Return when nothing near `point` is known.

    Raises:
        ConflictError: If something is; it says which trial, with its value.
    """
    found = min(((distance(space, point, tried.params), tried.called) for tried in known), default=(math.inf, ""))
    if found[0] <= NEAR:
        same = "the same" if found[0] == 0.0 else "nearly the same"
        raise ConflictError(
            f"{found[1]} {same} parameters.", hint="Choose others, or pass force=true to run these again."
        )


def distance(space: SearchSpace, one: Params, other: Params) -> float:
    """How far two points lie apart: the largest difference of a parameter, as a share of its range in the space.

    Logarithmic parameters are compared by their logarithms. Points that differ in a choice, or in which parameters
    they have, are infinitely far apart.

    >>> space = SearchSpace.model_validate({"lr": {"low": 1e-4, "high": 1.0, "log": True}, "k": ["a", "b"]})
    >>> round(distance(space, {"lr": 1e-2, "k": "a"}, {"lr": 1e-3, "k": "a"}), 3)
    0.25
    >>> distance(space, {"lr": 1e-2, "k": "a"}, {"lr": 1e-2, "k": "b"})
    inf
    """
    if (one.keys() & space.root.keys()) != (other.keys() & space.root.keys()):
        return math.inf
    return max((_apart(space.root[name], one[name], other[name]) for name in one if name in space.root), default=0.0)


def _apart(entry: Distribution, one: Scalar, other: Scalar) -> float:
    if one == other and isinstance(one, bool) == isinstance(other, bool):
        return 0.0
    if not isinstance(entry, Float | Int) or entry.low == entry.high:
        return math.inf
    places = [_place(entry, value) for value in (one, other)]
    low, high = _place(entry, entry.low), _place(entry, entry.high)
    return abs(places[0] - places[1]) / (high - low)


def _place(entry: Float | Int, value: Scalar) -> float:
    """Where a value lies on the parameter's own scale; infinitely far where it has no place."""
    if isinstance(value, bool) or not isinstance(value, int | float) or (entry.log and value <= 0):
        return math.inf
    return math.log(value) if entry.log else float(value)


def _written(entry: Distribution, value: Scalar) -> Scalar:
    """`value` as the space writes it: 1 where real numbers are searched is 1.0, and 3.0 among whole ones is 3."""
    match entry:
        case Float() if isinstance(value, int) and not isinstance(value, bool):
            return float(value)
        case Int() if isinstance(value, float) and value.is_integer():
            return int(value)
        case Categorical(choices=choices) if entry.contains(value):
            return next(c for c in choices if c == value and isinstance(c, bool) == isinstance(value, bool))
        case _:
            return value


def _nearest(entry: Distribution, value: Scalar) -> str:
    """The end of a sentence about a value that lies outside."""
    match entry:
        case Float() | Int() if isinstance(value, int | float) and not isinstance(value, bool):
            inside = min(max(value, entry.low), entry.high)
            if entry.step and entry.low < inside < entry.high:
                inside = entry.low + round((inside - entry.low) / entry.step) * entry.step
            return f" (nearest: {inside:g})"
        case Categorical(choices=choices) if isinstance(value, str):
            near = get_close_matches(value, [c for c in choices if isinstance(c, str)], 1)
            return f" (nearest: {near[0]})" if near else ""
        case _:
            return ""


def _unknown(name: str, space: SearchSpace, fixed: Params) -> str:
    if name in fixed:
        return f"{shown(name)} is fixed to {shown(fixed[name])} in this study"
    return f"there is no {shown(name)!r}, {did_you_mean(name, list(space.root)).rstrip('.')}"


def _condition(entry: Distribution) -> str:
    return " and ".join(f"{parent} is {_either(values)}" for parent, values in entry.when.items())


def _either(values: Sequence[Scalar]) -> str:
    return " or ".join(shown(value) for value in values)
