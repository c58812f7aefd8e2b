"""What one hyperparameter may be: the field's four distributions, checked before any sampler sees them."""

import math
from typing import Annotated, Literal, Self

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, field_validator, model_validator

from mcp_server.types import Scalar, shown

INT_LIMIT = 2**53
CHOICE_LIMIT = 1_000

Condition = dict[str, list[Scalar]]


def _number(value: object) -> object:
    if isinstance(value, bool):
        raise ValueError("must be a number, not true or false")
    return value


Bound = Annotated[float, BeforeValidator(_number), Field(allow_inf_nan=False)]
Whole = Annotated[int, BeforeValidator(_number)]


class _Distribution(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")

    when: Condition = Field(
        default_factory=dict,
        description='Exists only when another parameter has one of these values, e.g. {"estimator": ["svc"]}.',
    )


class Float(_Distribution):
    """A real number between `low` and `high`, both included."""

    type: Literal["float"] = "float"
    low: Bound
    high: Bound
    log: bool = Field(default=False, description="Search on a logarithmic scale.")
    step: Bound | None = None

    @model_validator(mode="after")
    def _ordered(self) -> Self:
        _check_range(self.low, self.high, log=self.log, step=self.step)
        if self.log and self.step is not None:
            raise ValueError("log and step cannot be combined")
        return self

    def contains(self, value: Scalar) -> bool:
        """Whether a trial may have this value."""
        if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
            return False
        if not self.low <= value <= self.high:
            return False
        if self.step is None:
            return True
        steps = (value - self.low) / self.step
        return math.isclose(steps, round(steps), abs_tol=1e-8)

    def at(self, u: float) -> float:
        """The value at `u` in [0, 1) of the range, on its own scale."""
        if self.step is not None:
            steps = math.floor((self.high - self.low) / self.step + 1e-9)
            return min(self.low + _slice(u, steps + 1) * self.step, self.high)
        return min(max(_between(self.low, self.high, u, log=self.log), self.low), self.high)


class Int(_Distribution):
    """A whole number between `low` and `high`, both included."""

    type: Literal["int"] = "int"
    low: Whole = Field(ge=-INT_LIMIT, le=INT_LIMIT)
    high: Whole = Field(ge=-INT_LIMIT, le=INT_LIMIT)
    log: bool = Field(default=False, description="Search on a logarithmic scale.")
    step: Whole = 1

    @model_validator(mode="after")
    def _ordered(self) -> Self:
        _check_range(self.low, self.high, log=self.log, step=self.step)
        if self.log and self.step != 1:
            raise ValueError("log and step cannot be combined for an int")
        return self

    def contains(self, value: Scalar) -> bool:
        """Whether a trial may have this value."""
        if isinstance(value, bool) or not isinstance(value, int):
            return False
        return self.low <= value <= self.high and (value - self.low) % self.step == 0

    def at(self, u: float) -> int:
        """The value at `u` in [0, 1) of the range, on its own scale; each one gets its share."""
        if self.log:
            value = round(_between(self.low - 0.5, self.high + 0.5, u, log=True))
            return min(max(value, self.low), self.high)
        return self.low + _slice(u, (self.high - self.low) // self.step + 1) * self.step


class Categorical(_Distribution):
    """One of the listed values."""

    type: Literal["categorical"] = "categorical"
    choices: tuple[Scalar, ...]

    @field_validator("choices", mode="before")
    @classmethod
    def _scalars(cls, choices: object) -> object:
        if not isinstance(choices, list | tuple):
            raise ValueError("must be a list")
        if not 1 <= len(choices) <= CHOICE_LIMIT:
            raise ValueError(f"must have 1 to {CHOICE_LIMIT:,} values, this one has {len(choices):,}")
        if bad := next((c for c in choices if isinstance(c, list | dict)), None):
            raise ValueError(f"a choice must be a text, a number, true, false or null, not {shown(bad)}")
        return choices

    @field_validator("choices")
    @classmethod
    def _distinct(cls, choices: tuple[Scalar, ...]) -> tuple[Scalar, ...]:
        if any(isinstance(c, float) and not math.isfinite(c) for c in choices):
            raise ValueError("a choice must be finite")
        for i, choice in enumerate(choices):
            if choice in choices[:i]:
                raise ValueError(f"choice {choice!r} is listed twice (1, 1.0 and true count as the same)")
        return choices

    def contains(self, value: Scalar) -> bool:
        """Whether a trial may have this value."""
        return any(value == c and isinstance(value, bool) == isinstance(c, bool) for c in self.choices)

    def at(self, u: float) -> Scalar:
        """The choice at `u` in [0, 1) of the list."""
        return self.choices[_slice(u, len(self.choices))]


class Fixed(_Distribution):
    """One value in every trial."""

    type: Literal["fixed"] = "fixed"
    value: Scalar

    def contains(self, value: Scalar) -> bool:
        """Whether a trial may have this value."""
        return value == self.value

    def at(self, u: float) -> Scalar:
        """The value."""
        del u
        return self.value


Distribution = Annotated[Float | Int | Categorical | Fixed, Field(discriminator="type")]


def _slice(u: float, count: int) -> int:
    return min(int(u * count), count - 1)


def _between(low: float, high: float, u: float, *, log: bool) -> float:
    return low * (high / low) ** u if log else low + u * (high - low)


def _check_range(low: float, high: float, *, log: bool, step: float | None) -> None:
    if low > high:
        raise ValueError(f"low {low:g} > high {high:g}")
    if log and low <= 0:
        raise ValueError(f"log needs low > 0, got {low:g}; use e.g. 1e-6")
    if step is not None and step <= 0:
        raise ValueError(f"step must be > 0, got {step:g}")
    if step is not None and low < high and step > high - low:
        raise ValueError(f"step {step:g} is larger than the range {high - low:g}")
