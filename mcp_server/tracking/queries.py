"""What can be asked about runs, and what comes back."""

from pydantic import BaseModel, ConfigDict, Field

from mcp_server.types import Name, Scalar

PAGE_LIMIT = 50


class _Model(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class RunQuery(_Model):
    """Which runs, which of their columns, in which order."""

    experiments: list[str] = Field(default_factory=list, description="Experiment names; empty means all.")
    study_name: Name | None = Field(default=None, description="Only the trials of this study.")
    filter: str = Field(default="", max_length=2_000, description="MLflow filter, e.g. metrics.accuracy > 0.9.")
    order_by: list[str] = Field(default_factory=list, max_length=5, description="E.g. metrics.accuracy DESC.")
    columns: list[str] = Field(default_factory=list, max_length=40, description="E.g. run_id, metrics.accuracy.")
    limit: int = Field(default=20, ge=1, description="Rows per page, at most 50.")
    cursor: str | None = Field(default=None, max_length=500, description="next_cursor of the page before.")


class RunTable(_Model):
    """A page of runs."""

    backend: str
    columns: list[str]
    rows: list[list[Scalar]]
    next_cursor: str | None = None
    note: str | None = None


class MetricHistory(_Model):
    """A metric over its steps, thinned out when it is long; the first and the last value are always there."""

    metric: str
    n_points: int
    steps: list[int]
    values: list[Scalar]


class Artifact(_Model):
    """A file or folder of a run."""

    path: str
    is_dir: bool
    bytes: int | None


class RunDetails(_Model):
    """One run with everything that was logged to it, and where it comes from."""

    backend: str
    run_id: str
    run_name: str
    experiment: str
    status: str
    started_at: str | None
    ended_at: str | None
    study_name: str | None
    study_id: str | None
    trial: int | None
    parent_run_id: str | None
    n_children: int
    params: dict[str, str]
    metrics: dict[str, Scalar]
    tags: dict[str, str]
    histories: list[MetricHistory]
    artifacts: list[Artifact]
    note: str | None = None


class TrackingStatus(_Model):
    """How far the tracking store is behind the workspace."""

    backend: str = Field(description="Kind of tracking store, e.g. sqlite or http.")
    synced: bool = Field(description="Whether everything so far is in the tracking store.")
    pending: int = Field(description="Records that are not yet in the tracking store.")
    oldest_pending_s: float | None = Field(default=None, description="Age of the oldest of them in seconds.")
    last_error: str | None = Field(default=None, description="Why the latest record did not arrive.")
