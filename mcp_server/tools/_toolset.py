"""How a function becomes a tool: `@toolset.tool(Permission.X)` on a function of a call and its arguments."""

import inspect
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, Any, TypeVar

from mcp.types import Tool as ListedTool
from mcp.types import ToolAnnotations
from pydantic import BaseModel

from mcp_server.access import Permission, Principal
from mcp_server.tools._arguments import Arguments
from mcp_server.tools._results import Answer

if TYPE_CHECKING:
    from mcp_server.workspace import Workspace

DEADLINE_S = 45.0
DESCRIPTION_LIMIT = 2_000
READ_ONLY = frozenset({Permission.READ, Permission.PLAN})

_SECTION = re.compile(r"^(Args|Returns|Raises|Yields|Example|Examples|Note|Notes):\s*$", re.MULTILINE)

Progress = Callable[[float, float | None, str | None], None]
Function = TypeVar("Function", bound=Callable[..., Answer])


def silent(done: float, total: float | None = None, message: str | None = None) -> None:
    """Progress of a call whose client did not ask for any."""


@dataclass(frozen=True)
class Call:
    """What a tool gets besides its arguments.

    `progress(done, total, message)` tells the client how far the call is, from any thread.
    """

    workspace: "Workspace"
    principal: Principal
    progress: Progress = silent


@dataclass(frozen=True)
class Tool:
    """A function of a call, the permission it takes and what hosts are told about it."""

    function: Callable[..., Answer]
    permission: Permission
    title: str
    destructive: bool = False
    idempotent: bool = False
    deadline_s: float = DEADLINE_S

    def __post_init__(self) -> None:
        if not isinstance(self.permission, Permission):
            raise TypeError(f"{self.name}: {self.permission!r} is not a Permission")
        if not self.description or len(self.description) > DESCRIPTION_LIMIT:
            raise TypeError(f"{self.name}: a docstring of 1 to {DESCRIPTION_LIMIT} characters is what a model reads")
        first = next(iter(self._parameters), None)
        if first is None or first.annotation is not Call:
            raise TypeError(f"{self.name}: the first parameter must be annotated as Call")

    @property
    def name(self) -> str:
        """The name of the function."""
        return self.function.__name__

    @property
    def read_only(self) -> bool:
        """Whether the permission it takes cannot change anything."""
        return self.permission in READ_ONLY

    @cached_property
    def description(self) -> str:
        """The docstring up to its first section, a line for each paragraph."""
        text = _SECTION.split(inspect.getdoc(self.function) or "")[0]
        return "\n".join(" ".join(paragraph.split()) for paragraph in text.strip().split("\n\n"))

    @cached_property
    def arguments(self) -> Arguments:
        """What the tool accepts."""
        if model := self._lone_model:
            return Arguments(self.name, model)
        _, *own = self._parameters
        required = inspect.Parameter.empty
        given = {p.name: (p.annotation, ... if p.default is required else p.default) for p in own}
        return Arguments.of_parameters(self.name, given)

    def run(self, call: Call, raw: dict[str, object]) -> Answer:
        """The function's answer to what a client sent.

        Raises:
            InvalidArgumentsError: If the arguments do not fit.
        """
        parsed = self.arguments.parse(raw)
        if self._lone_model:
            return self.function(call, parsed)
        return self.function(call, **{name: getattr(parsed, name) for name in type(parsed).model_fields})

    def listed(self) -> ListedTool:
        """The tool as clients see it.

        There is no output schema: it would double what every conversation pays for the list.
        """
        annotations = ToolAnnotations(
            title=self.title,
            read_only_hint=self.read_only,
            destructive_hint=self.destructive,
            idempotent_hint=self.idempotent or self.read_only,
            open_world_hint=False,
        )
        return ListedTool(
            name=self.name,
            title=self.title,
            description=self.description,
            input_schema=self.arguments.schema,
            annotations=annotations,
        )

    @cached_property
    def _parameters(self) -> tuple[inspect.Parameter, ...]:
        return tuple(inspect.signature(self.function, eval_str=True).parameters.values())

    @cached_property
    def _lone_model(self) -> type[BaseModel] | None:
        """The model whose fields are the arguments, when it is the only parameter."""
        _, *own = self._parameters
        annotation: Any = own[0].annotation if len(own) == 1 else None
        return annotation if isinstance(annotation, type) and issubclass(annotation, BaseModel) else None


@dataclass(frozen=True)
class Toolset:
    """The tools of one capability, in the order they are written; `default` ones are offered unless others are named.

    >>> toolset = Toolset("greetings", default=False)
    >>> @toolset.tool(Permission.READ)
    ... def greet(call: Call, name: str) -> dict[str, str]:
    ...     "Say hello."
    ...     return {"text": f"Hello {name}"}
    >>> [tool.title for tool in toolset]
    ['Greet']
    """

    name: str
    default: bool
    tools: list[Tool] = field(default_factory=list)

    def __iter__(self) -> Iterator[Tool]:
        return iter(self.tools)

    def tool(
        self,
        permission: Permission,
        *,
        title: str | None = None,
        destructive: bool = False,
        idempotent: bool = False,
        deadline_s: float = DEADLINE_S,
    ) -> Callable[[Function], Function]:
        """Add a function `(call: Call, ...)`; the fields of a lone model parameter become the arguments.

        A destructive tool loses something, an idempotent one can be called twice like once.

        Raises:
            TypeError: If the function cannot be a tool.
        """

        def add(function: Function) -> Function:
            shown_title = title or function.__name__.replace("_", " ").capitalize()
            self.tools.append(Tool(function, permission, shown_title, destructive, idempotent, deadline_s))
            return function

        return add
