"""The versions of a study's search space: how one becomes the next, and which one a trial was asked from.

A changed space keeps the structure of the first one: bounds and choices change, names, scales, steps and conditions do
not. A parameter whose condition cannot hold any more is left out, and comes back when it can hold again.
"""

import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, Self

from pydantic import JsonValue, ValidationError
from sqlalchemy import Connection, Row, insert, select

from mcp_server.distributions import Categorical, Distribution, Fixed, Float, Int
from mcp_server.errors import InvalidRequestError
from mcp_server.store.schema import spaces
from mcp_server.studies.space import SearchSpace, brief, optuna_distribution, parsed, reason
from mcp_server.studies.spec import did_you_mean
from mcp_server.types import JsonObject, Params, Scalar, shown

if TYPE_CHECKING:
    from optuna.distributions import BaseDistribution

Change = Literal["narrow", "widen"]
CHANGEABLE = frozenset({"low", "high", "choices"})


@dataclass(frozen=True)
class Spaces:
    """The spaces that a study has had, from version 1 on."""

    versions: tuple[SearchSpace, ...]

    @classmethod
    def read(cls, connection: Connection, study_id: str, first: SearchSpace) -> Self:
        """Those on record; `first` alone while it has not been changed."""
        rows = connection.scalars(
            select(spaces.c.space).where(spaces.c.study_id == study_id).order_by(spaces.c.version)
        )
        return cls(tuple(SearchSpace.model_validate(row) for row in rows) or (first,))

    @property
    def version(self) -> int:
        """The number of the present space."""
        return len(self.versions)

    @property
    def current(self) -> SearchSpace:
        """The space that trials are asked from."""
        return self.versions[-1]

    def distributions(self, params: Params, version: int) -> "dict[str, BaseDistribution]":
        """Optuna's distributions of a trial of this version, as they can lie together in one study of Optuna's.

        Numbers keep the bounds of the trial's own space. Optuna refuses a study whose trials differ in the choices of
        one parameter, so each trial gets the choices of all versions.
        """
        own = self.versions[version - 1]
        found = own.distributions(params)
        for name in found:
            if isinstance(entry := own.root[name], Categorical):
                found[name] = optuna_distribution(entry.model_copy(update={"choices": self.choices(name)}))
        return found

    def choices(self, name: str) -> tuple[Scalar, ...]:
        """All choices that a parameter has had, in the order they came up."""
        found = Categorical.model_construct(choices=())
        for space in self.versions:
            if isinstance(entry := space.root.get(name), Categorical):
                fresh = [choice for choice in entry.choices if not found.contains(choice)]
                found = Categorical.model_construct(choices=(*found.choices, *fresh))
        return found.choices

    def changed(self, asked: Mapping[str, JsonValue], change: Change) -> SearchSpace:
        """The next version: the present one with the asked bounds and choices.

        Raises:
            InvalidRequestError: If a parameter is unknown, something else than bounds or choices is asked, nothing
                changes, or an entry does not lie inside the present one (`narrow`) or around it (`widen`).
        """
        entries = {name: self._entry(name, value, change) for name, value in asked.items()}
        if all(
            _inside(entry, self.current.root[name]) and _inside(self.current.root[name], entry)
            for name, entry in entries.items()
        ):
            known = "; ".join(f"{name}: {brief(entry)}" for name, entry in list(self.current.root.items())[:10])
            raise InvalidRequestError("This changes nothing of the search space.", hint=f"It has {known}.")
        first = self.versions[0].root
        return SearchSpace(_possible(self.versions[0], {**first, **self.current.root, **entries}))

    def _entry(self, name: str, value: JsonValue, change: Change) -> Distribution:
        present = self.current.root.get(name)
        if present is None:
            known = did_you_mean(name, list(self.current.root))
            raise InvalidRequestError(f"The search space has no {shown(name)!r}: {known}", hint="Correct the name.")
        entry = _merged(name, present, value)
        inner, outer = (entry, present) if change == "narrow" else (present, entry)
        if not _inside(inner, outer):
            raise InvalidRequestError(
                f"{name} is {brief(present)}; {brief(entry)} does not {change} it.",
                hint=f"Use action={'widen' if change == 'narrow' else 'narrow'!r} for that, or correct {name}.",
            )
        self._check_children(name, entry)
        return entry

    def _check_children(self, name: str, entry: Distribution) -> None:
        first = self.versions[0]
        decides = any(name in other.when for other in first.root.values())
        if not decides or not isinstance(entry, Categorical):
            return
        if fresh := [choice for choice in entry.choices if not first.root[name].contains(choice)]:
            raise InvalidRequestError(
                f"{name} decides which other parameters there are, and none are known for {shown(fresh[0])}.",
                hint=f"It may be {brief(first.root[name])}.",
            )


def record(connection: Connection, row: Row[Any], known: Spaces, fresh: SearchSpace, owner: str) -> int:
    """The number of the version under which `fresh` is recorded; the first change records the first space, too."""
    entries = [(known.version + 1, fresh, owner, time.time())]
    if known.version == 1:
        entries.insert(0, (1, known.current, row.owner, row.created_at))
    for version, space, by, at in entries:
        values = {"version": version, "space": space.model_dump(mode="json"), "owner": by, "created_at": at}
        connection.execute(insert(spaces).values(study_id=row.id, **values))
    return known.version + 1


def _merged(name: str, present: Distribution, value: JsonValue) -> Distribution:
    """The present entry with the bounds or choices of `value`."""
    asked = _as_object(present, value)
    known = present.model_dump()
    fixed = [key for key, new in asked.items() if key not in CHANGEABLE and known.get(key, new) != new]
    if fixed or isinstance(present, Fixed):
        raise InvalidRequestError(
            f"{name} is {brief(present)}; its {', '.join(fixed) or 'value'} cannot change in a study that has begun.",
            hint="Only low, high and choices can; start another study for the rest.",
        )
    try:
        return parsed({**known, **asked})
    except ValidationError as exc:
        problems = "; ".join(reason(error) for error in exc.errors(include_url=False))
        raise InvalidRequestError(f"{name}: {problems}.", hint=f"{name} is {brief(present)}.") from exc


def _as_object(present: Distribution, value: JsonValue) -> JsonObject:
    if isinstance(value, dict):
        return value
    if isinstance(value, list) or isinstance(present, Categorical | Fixed):
        return {"choices": value if isinstance(value, list) else [value]}
    return {"low": value, "high": value}


def _inside(inner: Distribution, outer: Distribution) -> bool:
    """Whether every value of `inner` is one of `outer`, up to the values that a changed bound of `outer` adds."""
    if isinstance(inner, Categorical) and isinstance(outer, Categorical):
        return all(outer.contains(choice) for choice in inner.choices)
    if isinstance(inner, Float | Int) and isinstance(outer, Float | Int):
        moved = {inner.low, inner.high} - {outer.low, outer.high}
        return outer.low <= inner.low and inner.high <= outer.high and all(outer.contains(bound) for bound in moved)
    return False


def _possible(first: SearchSpace, entries: Mapping[str, Distribution]) -> dict[str, Distribution]:
    """The entries whose conditions can hold, with the conditions of the first space as far as they can."""
    kept: dict[str, Distribution] = {}
    for name, original in first.ordered():
        when = {
            parent: [value for value in values if parent in kept and kept[parent].contains(value)]
            for parent, values in original.when.items()
        }
        if all(when.values()):
            kept[name] = entries[name].model_copy(update={"when": when})
    return {name: kept[name] for name in first.root if name in kept}
