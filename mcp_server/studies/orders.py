"""What can be asked of a study that exists, and which parameters each request takes."""

from collections.abc import Mapping
from types import MappingProxyType
from typing import Annotated, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, JsonValue, ValidationError, WithJsonSchema

from mcp_server.errors import InvalidRequestError
from mcp_server.studies.priority import Priority
from mcp_server.types import JsonObject, Params, Seconds

Action = Literal[
    "pause", "resume", "stop", "extend", "set_parallel", "set_priority", "enqueue", "narrow", "widen", "final_test"
]
ENQUEUE, STOP_TRIAL, FINAL_TEST = "enqueue", "stop_trial", "final_test"
"""Actions of rows in `commands`, which only the study's runner can carry out."""

TAKES: Mapping[Action, frozenset[str]] = MappingProxyType(
    {
        "pause": frozenset(),
        "resume": frozenset(),
        "stop": frozenset({"how", "trial"}),
        "extend": frozenset({"n_trials", "timeout_s"}),
        "set_parallel": frozenset({"parallel", "force"}),
        "set_priority": frozenset({"priority"}),
        "enqueue": frozenset({"params", "force"}),
        "narrow": frozenset({"search_space"}),
        "widen": frozenset({"search_space"}),
        "final_test": frozenset(),
    }
)
NEEDS: Mapping[Action, str] = MappingProxyType(
    {
        "set_parallel": "parallel",
        "set_priority": "priority",
        "enqueue": "params",
        "narrow": "search_space",
        "widen": "search_space",
    }
)
_EXAMPLES: Mapping[str, str] = MappingProxyType(
    {
        "parallel": "parallel=2",
        "priority": 'priority="low"',
        "params": 'params={"C": 0.5}',
        "search_space": 'search_space={"C": {"low": 0.1}}',
    }
)
_Object = WithJsonSchema({"type": "object"})


class Order(BaseModel):
    """A request to a study, with its parameters."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    action: Action = Field(
        description="pause lets running trials end; stop ends them; enqueue tries params next; narrow and widen "
        "change search_space; final_test scores the winner on the sealed rows (once, at the end)."
    )
    n_trials: int | None = Field(default=None, ge=1, le=100_000, description="New total, for extend.")
    timeout_s: Seconds | None = Field(default=None, description="New running seconds, for extend.")
    how: Literal["now", "drain"] | None = Field(default=None, description="stop: drain lets trials end.")
    trial: int | None = Field(default=None, description="stop: this trial only.")
    parallel: int | None = Field(default=None, ge=1, description="For set_parallel.")
    priority: Priority | None = Field(default=None, description="For set_priority.")
    params: Annotated[Params, _Object] | None = Field(default=None, description="For enqueue.")
    search_space: Annotated[dict[str, JsonValue], _Object] | None = Field(
        default=None, description='New bounds or choices, e.g. {"C": {"high": 10}}.'
    )
    force: bool = Field(default=False, description="Repeat what was tried; exceed the cores.")

    @classmethod
    def of(cls, action: Action, parameters: Mapping[str, object]) -> Self:
        """The order of these parameters.

        Raises:
            InvalidRequestError: If one is unknown or wrong.
        """
        try:
            return cls.model_validate({"action": action, **parameters})
        except ValidationError as exc:
            problems = [f"{'.'.join(map(str, e['loc']))}: {e['msg']}" for e in exc.errors(include_url=False)]
            raise InvalidRequestError("; ".join(problems) + ".", hint=f"Correct the order {action}.") from exc

    def check(self) -> None:
        """Return when the parameters belong to the action.

        Raises:
            InvalidRequestError: If one does not, or one is missing; it names them.
        """
        foreign = sorted(self.given().keys() - TAKES[self.action])
        if foreign:
            own = ", ".join(sorted(TAKES[self.action]))
            raise InvalidRequestError(
                f"{' and '.join(foreign)} {'do' if len(foreign) > 1 else 'does'} nothing with {self.action}.",
                hint=f"{self.action} takes {own or 'no parameters'}.",
            )
        needed = NEEDS.get(self.action)
        if needed is not None and needed not in self.given():
            raise InvalidRequestError(f"{self.action} needs {needed}.", hint=f"For example {_EXAMPLES[needed]}.")
        if self.trial is not None and self.how is not None:
            raise InvalidRequestError("how does nothing when one trial is stopped.", hint="Leave it out.")

    def given(self) -> JsonObject:
        """The parameters that were given, by name."""
        return self.model_dump(include=set(Order.model_fields) - {"action"}, exclude_defaults=True)
