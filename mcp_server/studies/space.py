"""The search space of a study: named distributions, some of which exist only for some values of others."""

import math
from collections.abc import Iterator, Mapping
from difflib import get_close_matches
from graphlib import CycleError, TopologicalSorter
from itertools import islice, product
from typing import TYPE_CHECKING, Any, Self

from pydantic import (
    BaseModel,
    ConfigDict,
    JsonValue,
    RootModel,
    TypeAdapter,
    ValidationError,
    field_validator,
    model_validator,
)

from mcp_server.distributions import Categorical, Distribution, Fixed, Float, Int
from mcp_server.errors import InvalidRequestError
from mcp_server.types import Params, Scalar, shown

if TYPE_CHECKING:
    from optuna import Trial
    from optuna.distributions import BaseDistribution

PARAMETER_LIMIT = 100
GRID_LIMIT = 100_000

_adapter: TypeAdapter[Distribution] = TypeAdapter(Distribution)


class SearchSpace(RootModel[dict[str, Distribution]]):
    """Named distributions; a bare list stands for choices and a bare scalar for a fixed value.

    >>> space = SearchSpace.model_validate({"lr": {"low": 1e-4, "high": 0.1, "log": True}, "k": [1, 2]})
    >>> list(space.root)
    ['lr', 'k']
    """

    model_config = ConfigDict(frozen=True)

    @field_validator("root", mode="before")
    @classmethod
    def _each_entry(cls, root: object) -> object:
        """Every malformed entry is reported, not only the first."""
        if not isinstance(root, dict):
            return root
        if len(root) > PARAMETER_LIMIT:
            raise ValueError(f"a space may have {PARAMETER_LIMIT} parameters, this one has {len(root)}")
        problems, entries = [], {}
        for name, entry in root.items():
            try:
                entries[name] = parsed(entry)
            except ValidationError as exc:
                problems += [f"{shown(name)}: {reason(error)}" for error in exc.errors(include_url=False)]
        if problems:
            raise ValueError("; ".join(problems))
        return entries

    @model_validator(mode="after")
    def _conditions_hold(self) -> Self:
        for name, distribution in self.root.items():
            for parent, values in distribution.when.items():
                self._check_condition(name, parent, values)
        try:
            list(self.ordered())
        except CycleError as exc:
            raise ValueError(f"the conditions form a cycle: {' -> '.join(exc.args[1])}") from exc
        return self

    def _check_condition(self, name: str, parent: str, values: list[Scalar]) -> None:
        if parent not in self.root:
            near = get_close_matches(parent, self.root, 1)
            known = f"did you mean {near[0]!r}?" if near else f"known: {', '.join(self.root)}"
            raise ValueError(f"{name} depends on {shown(parent)!r}, which is not in the space; {known}")
        allowed = self.root[parent]
        if bad := [value for value in values if not allowed.contains(value)]:
            raise ValueError(f"{name} depends on {parent} = {shown(bad[0])}, which {parent} never is")
        if not values:
            raise ValueError(f"{name} depends on {parent}, but names no value of it")

    def ordered(self) -> Iterator[tuple[str, Distribution]]:
        """The parameters, each after those it depends on, otherwise as written."""
        graph = {name: set(distribution.when) for name, distribution in self.root.items()}
        for name in TopologicalSorter(graph).static_order():
            yield name, self.root[name]

    def active(self, name: str, chosen: Params) -> bool:
        """Whether the parameter exists, given what was chosen for those it depends on."""
        return all(
            parent in chosen and any(chosen[parent] == value for value in values)
            for parent, values in self.root[name].when.items()
        )

    def suggest(self, trial: "Trial") -> Params:
        """What the trial's sampler chooses for every parameter that exists."""
        chosen: Params = {}
        for name, distribution in self.ordered():
            if self.active(name, chosen):
                chosen[name] = _suggested(trial, name, distribution)
        return chosen

    def distributions(self, params: Params) -> "dict[str, BaseDistribution]":
        """Optuna's distributions of those of `params` that are searched and lie inside them."""
        return {
            name: optuna_distribution(self.root[name])
            for name, value in params.items()
            if name in self.root and not isinstance(self.root[name], Fixed) and self.root[name].contains(value)
        }

    def fits(self, params: Params) -> bool:
        """Whether a trial of this space could have these parameters: all that exist, each inside, and no others."""
        chosen: Params = {}
        for name, distribution in self.ordered():
            if self.active(name, chosen):
                if name not in params or not distribution.contains(params[name]):
                    return False
                chosen[name] = params[name]
        return chosen.keys() == params.keys()

    @property
    def conditional(self) -> bool:
        """Whether some parameter exists only for some values of others."""
        return any(distribution.when for distribution in self.root.values())

    def warnings(self) -> list[str]:
        """Sentences about entries that are allowed but hardly meant."""
        return [
            f"{name} is constant: low and high are both {entry.low:g}."
            for name, entry in self.root.items()
            if isinstance(entry, Float | Int) and entry.low == entry.high
        ]

    def differences(self, other: "SearchSpace") -> list[str]:
        """One sentence per parameter that the other space has otherwise."""
        found = []
        for name in sorted({*self.root, *other.root}):
            mine, theirs = self.root.get(name), other.root.get(name)
            if mine != theirs:
                found.append(f"{name}: {brief(mine)} -> {brief(theirs)}")
        return found

    def grid(self) -> "Grid":
        """All points of the space, counted before any is built.

        Raises:
            InvalidRequestError: If there are too many, or a real-valued parameter has no step.
        """
        return Grid(self)


class Grid:
    """The points of a space in a fixed order; conditional parameters appear only where they exist."""

    def __init__(self, space: SearchSpace) -> None:
        self._space = space
        self._axes = [(name, _levels(name, entry)) for name, entry in space.ordered()]
        self._combinations = math.prod(len(levels) for _, levels in self._axes)
        if self._combinations > GRID_LIMIT:
            sizes = " x ".join(str(len(levels)) for _, levels in self._axes[:12])
            raise InvalidRequestError(
                f"The grid has {self._combinations:,} points ({sizes}); the limit is {GRID_LIMIT:,}.",
                hint="Use fewer values, or the random or tpe sampler.",
            )

    def __len__(self) -> int:
        return sum(1 for _ in self) if self._space.conditional else self._combinations

    def __iter__(self) -> Iterator[Params]:
        seen: set[tuple[tuple[str, Scalar], ...]] = set()
        for values in product(*(levels for _, levels in self._axes)):
            point = self._pruned(dict(zip((name for name, _ in self._axes), values, strict=True)))
            key = tuple(point.items())
            if not self._space.conditional or key not in seen:
                seen.add(key)
                yield point

    def point(self, index: int) -> Params | None:
        """The point with this index, None past the end."""
        if self._space.conditional:
            return next(islice(self, index, None), None)
        return self._unconditional(index) if index < self._combinations else None

    def _unconditional(self, index: int) -> Params:
        point: Params = {}
        for name, levels in reversed(self._axes):  # the last parameter changes fastest, as in `product`
            index, level = divmod(index, len(levels))
            point[name] = levels[level]
        return {name: point[name] for name, _ in self._axes}

    def _pruned(self, point: Params) -> Params:
        chosen: Params = {}
        for name, _ in self._axes:
            if self._space.active(name, chosen):
                chosen[name] = point[name]
        return chosen


def optuna_distribution(entry: Distribution) -> "BaseDistribution":
    """The distribution as Optuna has it."""
    from optuna import distributions

    match entry:
        case Float(low=low, high=high, log=log, step=step):
            return distributions.FloatDistribution(low, high, log=log, step=step)
        case Int(low=low, high=high, log=log, step=step):
            return distributions.IntDistribution(low, high, log=log, step=step)
        case Categorical(choices=choices):
            return distributions.CategoricalDistribution(choices)
        case Fixed(value=value):
            return distributions.CategoricalDistribution((value,))


def _suggested(trial: "Trial", name: str, entry: Distribution) -> Scalar:
    match entry:
        case Float(low=low, high=high, log=log, step=step):
            return trial.suggest_float(name, low, high, log=log, step=step)
        case Int(low=low, high=high, log=log, step=step):
            return trial.suggest_int(name, low, high, log=log, step=step)
        case Categorical(choices=choices):
            value: Scalar = trial.suggest_categorical(name, choices)
            return value
        case Fixed(value=value):
            return value


def _levels(name: str, entry: Distribution) -> list[Scalar] | range:
    match entry:
        case Fixed(value=value):
            return [value]
        case Categorical(choices=choices):
            return list(choices)
        case Int(low=low, high=high, step=step):
            return range(low, high + 1, step)
        case Float(low=low, high=high, step=step):
            if step is None:
                raise InvalidRequestError(
                    f"{name} is a float without a step, so its grid has no end.",
                    hint=f"Give {name} a step or a list of values, or use the random or tpe sampler.",
                )
            if (high - low) / step > GRID_LIMIT:
                raise InvalidRequestError(
                    f"{name} alone has {(high - low) / step + 1:,.0f} grid points; the limit is {GRID_LIMIT:,}.",
                    hint="Use a larger step, or the random or tpe sampler.",
                )
            return [min(low + i * step, high) for i in range(math.floor((high - low) / step + 1e-9) + 1)]


def parsed(entry: JsonValue | BaseModel) -> Distribution:
    """The distribution that an entry of a space stands for.

    Raises:
        pydantic.ValidationError: If it is none.
    """
    if isinstance(entry, list | tuple):
        return _adapter.validate_python({"type": "categorical", "choices": entry})
    if not isinstance(entry, dict | BaseModel):
        return _adapter.validate_python({"type": "fixed", "value": entry})
    if isinstance(entry, dict) and "type" not in entry:
        entry = {**entry, "type": _guessed_type(entry)}
    return _adapter.validate_python(entry)


def _guessed_type(entry: Mapping[str, JsonValue]) -> str:
    if "choices" in entry:
        return "categorical"
    if "value" in entry:
        return "fixed"
    bounds = [entry.get("low"), entry.get("high"), entry.get("step", 1)]
    return "int" if all(isinstance(b, int) and not isinstance(b, bool) for b in bounds) else "float"


def reason(error: Mapping[str, Any]) -> str:
    """What pydantic found wrong with an entry, as the end of a sentence."""
    message = str(error["msg"]).removeprefix("Value error, ")
    message = message[:1].lower() + message[1:]
    where = [str(part) for part in error["loc"] if part not in {"float", "int", "categorical", "fixed"}]
    return f"{'.'.join(where)} {message} (got {shown(error['input'])})" if where else message


def brief(entry: Distribution | None) -> str:
    """An entry in a few words."""
    match entry:
        case None:
            return "absent"
        case Fixed(value=value):
            return f"fixed {shown(value)}"
        case Categorical(choices=choices):
            return f"one of {shown(list(choices))}"
        case Float() | Int():
            scale = " log" if entry.log else ""
            return f"{entry.type} {entry.low:g}..{entry.high:g}{scale}"
