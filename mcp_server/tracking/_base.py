"""The contract between the outbox and a tracking store."""

from dataclasses import dataclass, field
from typing import Literal, Protocol

from mcp_server.tracking.records import DatasetRef
from mcp_server.types import JsonObject

RunStatus = Literal["RUNNING", "FINISHED", "KILLED", "FAILED"]


@dataclass(frozen=True, slots=True)
class Point:
    """One value of a metric. Its time is fixed, so that writing it again changes nothing."""

    key: str
    value: float
    at_ms: int
    step: int = 0


@dataclass(frozen=True, slots=True)
class RunContent:
    """A run as a store should hold it; `uid` is its identity whatever id the store gives it."""

    uid: str
    experiment: str
    name: str
    started_ms: int
    status: RunStatus = "RUNNING"
    ended_ms: int | None = None
    tags: dict[str, str] = field(default_factory=dict)
    params: dict[str, str] = field(default_factory=dict)
    points: list[Point] = field(default_factory=list)
    dataset: DatasetRef | None = None
    config: JsonObject = field(default_factory=dict)


class Tracker(Protocol):
    """A tracking store that records are written to.

    Every method may raise `BackendUnavailableError` when the store does not answer: the caller tries again later, so
    everything but `create_run` must be repeatable without a trace. Any other `WorkspaceError` means that the store
    refused this content for good.
    """

    def create_run(self, content: RunContent) -> str:
        """The id of a new run with the content's name, start and tags; called twice, it makes two."""

    def find_run(self, content: RunContent) -> str | None:
        """The id of the run that an earlier `create_run` made for the content's `uid`."""

    def write(self, run_id: str, content: RunContent) -> None:
        """Store params, points, data set and config, and end the run if the content has an end."""

    def add(self, run_id: str, points: list[Point], tags: dict[str, str]) -> None:
        """Store more points and tags on a run that exists."""

    def end(self, run_id: str, status: RunStatus, ended_ms: int) -> None:
        """Close the run; the last call wins."""

    def reopen(self, run_id: str) -> None:
        """Show a run that was closed as running."""

    def delete(self, experiment: str, uid: str) -> None:
        """Mark the run `uid` and all whose uid begins with it as deleted, each once, and end those that still run."""

    def tidy(self) -> None:
        """Let the store put itself in order after many writes."""

    def check(self) -> None:
        """Return if the store answers at all."""
