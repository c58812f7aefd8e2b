"""The JSON messages between an executor and a worker: nothing that a trial made is ever unpickled."""

import json
from dataclasses import asdict, dataclass, field
from typing import Annotated, Literal

from pydantic import Field, TypeAdapter

from mcp_server.execution._base import TrialResult, TrialTask

MESSAGE_LIMIT = 16 * 2**20


@dataclass(frozen=True, slots=True)
class Report:
    """A worker's trial reported and waits for an `Answer`."""

    step: int
    value: float
    running: float
    kind: Literal["report"] = "report"


@dataclass(frozen=True, slots=True)
class Charge:
    """A worker's trial has cost so many US dollars more; nobody answers."""

    usd: Annotated[float, Field(ge=0, allow_inf_nan=False)]
    kind: Literal["charge"] = "charge"


@dataclass(frozen=True, slots=True)
class Outcome:
    """How the objective ended; the last message of a worker."""

    state: Literal["completed", "pruned", "failed", "oom"]
    result: TrialResult | None = None
    error: str | None = None
    cpu_seconds: float = 0.0
    kind: Literal["outcome"] = "outcome"


@dataclass(frozen=True, slots=True)
class Answer:
    """Whether the trial that reported should stop."""

    prune: bool


@dataclass(frozen=True, slots=True)
class WorkerOrder:
    """What whoever starts and watches a worker has to know of its task."""

    job_id: str
    log_path: str
    memory_mb: float | None = None
    folder: str | None = None
    disk_mb: float | None = None

    @classmethod
    def of(cls, task: TrialTask) -> "WorkerOrder":
        """The order for the worker of `task`."""
        return cls(task.job_id, task.log_path, task.memory_mb, task.folder, task.disk_mb)


@dataclass(frozen=True, slots=True)
class Assignment:
    """The first message to a worker."""

    task: TrialTask
    environment: dict[str, str] = field(default_factory=dict)


FromWorker = Report | Charge | Outcome
_from_worker: TypeAdapter[FromWorker] = TypeAdapter(Annotated[FromWorker, Field(discriminator="kind")])


def encoded(message: FromWorker | Answer | Assignment | WorkerOrder) -> bytes:
    """`message` as it travels."""
    return json.dumps(asdict(message)).encode()


def decoded_from_worker(data: bytes) -> FromWorker:
    """The message in `data`, checked, because the trial could have written anything to the pipe.

    Raises:
        ValueError: If it is not a message.
    """
    return _from_worker.validate_json(data)


def decoded_assignment(data: bytes) -> Assignment:
    """The assignment that an executor sent."""
    message = json.loads(data)
    return Assignment(TrialTask(**message["task"]), message["environment"])


def decoded_answer(data: bytes) -> Answer:
    """The answer that an executor sent."""
    return Answer(**json.loads(data))
