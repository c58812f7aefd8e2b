"""What is projected into the tracking store: one record per start, end and deletion of a study, and per ended trial."""

import json
from typing import Annotated, Literal, cast

from pydantic import BaseModel, ConfigDict, Field, TypeAdapter

from mcp_server.types import JsonObject, Params, Scalar

Report = tuple[int, float, float]
"""An intermediate value: its step, the value, and when it was reported (Unix seconds)."""


class _Part(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")

    def to_json(self, *fields: str) -> JsonObject:
        """These fields, or all, as JSON that every database takes: what is not finite becomes its name as text."""
        text = json.dumps(self.model_dump(include=set(fields) or None))  # unlike pydantic's, it takes lone surrogates
        return cast("JsonObject", json.loads(text, parse_constant=str))


class DatasetRef(_Part):
    """The data that a study was tuned on, named by content."""

    name: str
    digest: str
    source: str
    n_rows: int | None = None
    n_columns: int | None = None
    target: str | None = None


class StudyRecord(_Part):
    """A study began: becomes the parent run."""

    kind: Literal["study"] = "study"
    study_id: str
    study_name: str
    experiment: str
    started_at: float
    params: dict[str, Scalar] = Field(default_factory=dict)
    tags: dict[str, str] = Field(default_factory=dict)
    dataset: DatasetRef | None = None

    @property
    def key(self) -> str:
        """What makes this record the same one when it is enqueued again."""
        return study_key(self.study_id)


class TrialRecord(_Part):
    """A trial ended: becomes a child run."""

    kind: Literal["trial"] = "trial"
    study_id: str
    study_name: str
    number: int
    state: Literal["complete", "pruned", "failed"]
    params: Params
    metric: str = Field(description="Name of the objective metric.")
    value: float | None = None
    std: float | None = None
    best_so_far: float | None = None
    metrics: dict[str, float] = Field(default_factory=dict)
    reports: list[Report] = Field(default_factory=list)
    step_unit: Literal["fold", "epoch", "step"] = "fold"
    started_at: float
    ended_at: float
    cost_usd: float = 0.0
    config: JsonObject = Field(default_factory=dict)
    error: str | None = None
    explanation: str | None = None
    source: str = ""
    tags: dict[str, str] = Field(default_factory=dict)

    @property
    def key(self) -> str:
        """What makes this record the same one when it is enqueued again."""
        return f"{self.study_id}/{self.number}"


class StudyEndRecord(_Part):
    """A study ended: terminates the parent run. A resumed study ends again, with the next `sequence`."""

    kind: Literal["study_end"] = "study_end"
    study_id: str
    study_name: str
    state: Literal["finished", "stopped", "failed"]
    stop_reason: str | None = None
    ended_at: float
    metrics: dict[str, float] = Field(default_factory=dict)
    best_trial: int | None = None
    sequence: int = 0

    @property
    def key(self) -> str:
        """What makes this record the same one when it is enqueued again."""
        return f"{self.study_id}/end/{self.sequence}"


class StudyDeletionRecord(_Part):
    """A study was deleted: its runs, those of its trials too, are marked as deleted."""

    kind: Literal["study_deletion"] = "study_deletion"
    study_id: str
    study_name: str
    experiment: str
    deleted_at: float

    @property
    def key(self) -> str:
        """What makes this record the same one when it is enqueued again."""
        return f"{self.study_id}/deletion"


AnyRecord = StudyRecord | TrialRecord | StudyEndRecord | StudyDeletionRecord

_RECORD: TypeAdapter[AnyRecord] = TypeAdapter(Annotated[AnyRecord, Field(discriminator="kind")])


def study_key(study_id: str) -> str:
    """The key of a study's first record."""
    return study_id


def parse_record(payload: JsonObject) -> AnyRecord:
    """The record that `payload` is a JSON dump of.

    Raises:
        pydantic.ValidationError: If it is none.
    """
    return _RECORD.validate_python(payload)
