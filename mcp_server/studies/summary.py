"""What a caller gets back about studies."""

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field

from mcp_server.tracking.queries import TrackingStatus
from mcp_server.types import AttemptState, Direction, JsonObject, Params, Scalar, StudyState, TrialState

Grouping = Literal["team", "user", "study", "tag", "week"]
Month = Annotated[str, Field(pattern=r"^\d{4}-(0[1-9]|1[0-2])$")]


class _Model(BaseModel):
    model_config = ConfigDict(frozen=True)


class FinalTest(_Model):
    """The best trial's score on the sealed rows, which the search never saw."""

    trial: int
    value: float | None = None
    low: float | None = Field(default=None, description="Lower end of the 95 % bootstrap interval.")
    high: float | None = None
    reads: int = Field(description="How often the sealed rows have been read; only the first read is unbiased.")


class BaselineComparison(_Model):
    """The best trial against trial 0, the estimator's defaults, on the same folds."""

    value: float
    difference: float = Field(description="Best minus baseline in the metric's own unit.")
    standard_error: float | None = Field(
        default=None, description="Of the difference, corrected for overlapping folds (Nadeau and Bengio 2003)."
    )
    verdict: str


class StudyEvent(_Model):
    """Something that was ordered or that happened."""

    at: float = Field(description="Unix seconds.")
    kind: str
    actor: str = Field(description="Who ordered it, or runner.")
    trial: int | None = None
    attempt: int | None = None
    detail: JsonObject | None = None


class Forecast(_Model):
    """What a study will have cost and how long it still takes: low, likely and high, from the trials that are over."""

    cost_usd: list[float]
    remaining_s: list[float]


class StudyStatus(_Model):
    """Where a study stands, in a few hundred tokens."""

    study_name: str
    state: StudyState
    message: str
    n_trials: int
    n_complete: int
    n_pruned: int
    n_failed: int
    n_running: int
    n_waiting: int | None = Field(default=None, description="Enqueued candidates that have not begun.")
    metric: str
    direction: Direction
    best_value: float | None = None
    best_std: float | None = None
    best_params: Params | None = Field(default=None, description="Rounded; get_automl_best_params has them exactly.")
    best_trial: int | None = None
    baseline: BaselineComparison | None = None
    trend: str | None = Field(default=None, description="Best so far over time, as a sparkline.")
    waiting: str | None = Field(default=None, description="What its runner waits for to go on, and since when.")
    stop_reason: str | None = None
    error: str | None = None
    failures: dict[str, int] | None = Field(default=None, description="Failed trials by cause.")
    elapsed_s: float
    cost_usd: float
    forecast: Forecast | None = None
    approval: str | None = None
    sampler: JsonObject
    pruner: str
    final_test: FinalTest | None = None
    tracking: TrackingStatus
    warnings: list[str] | None = None
    note: str | None = Field(default=None, description="What became of an order.")
    next_step: str | None = None
    space_version: int | None = Field(default=None, description="Of the search space, when it was changed.")
    search_space: JsonObject | None = None
    config: JsonObject | None = None
    events: list[StudyEvent] | None = Field(default=None, description="The latest, newest first.")


class EventList(_Model):
    """The events of a study, newest first."""

    study_name: str
    events: list[StudyEvent]
    next_cursor: str | None = None


class Table(_Model):
    """Rows of equal length under named columns."""

    columns: list[str]
    rows: list[list[Scalar]]


class CostReport(_Model):
    """What attempts cost, in US dollars, the dearest group first; `rows` add up to `total_usd`."""

    by: Grouping
    tag: str | None = None
    month: str | None = None
    total_usd: float
    groups: Table
    budgets: Table | None = Field(default=None, description="Of teams, in this calendar month (UTC).")
    waiting: Table | None = Field(default=None, description="Studies that wait for an approval.")
    note: str | None = None


class QueueStatus(_Model):
    """What runs in a workspace, what waits, and for whom."""

    message: str
    slots: int = Field(description="Trials that run at a time on this machine.")
    slots_busy: int
    gpus: int
    gpus_busy: int
    studies: Table = Field(description="Those that run or wait, the one whose trial starts next first.")
    users: Table = Field(description="Trials by user.")


class StudyList(_Model):
    """The studies of a workspace, newest first."""

    total: int
    studies: Table
    next_cursor: str | None = None
    message: str | None = None


class TrialTable(_Model):
    """The best trials of a study, side by side.

    Parameters that only some of them have stand in the last column, `own_params`, by their family's own names.
    """

    study_name: str
    metric: str
    direction: Direction
    trials: Table
    n_complete: int
    message: str | None = None


class BestParams(_Model):
    """The winner, and a block that a training job takes unchanged."""

    study_name: str
    state: StudyState
    trial: int
    metric: str
    value: float
    std: float | None = None
    folds: list[float] | None = None
    training: JsonObject = Field(description="Pass this on unchanged to train once with these parameters.")
    baseline: BaselineComparison | None = None
    final_test: FinalTest | None = None
    message: str


class PlanSummary(_Model):
    """What a study would do, with what it takes, before anything runs."""

    plan_id: str
    message: str
    task: str
    target: str
    metric: str
    direction: Direction
    n_rows: int
    n_sealed: int
    validation: str
    estimators: list[str]
    parameters: Table | None = Field(default=None, description="Given when one kind of model is tuned.")
    n_trials: int
    parallel: int
    seconds_per_trial: float
    estimated_s: list[float] = Field(description="Low, likely and high total seconds.")
    estimated_cost_usd: list[float] = Field(description="Low, likely and high total.")
    notes: list[str] | None = None
    warnings: list[str] | None = None
    next_step: str


class DeletedStudy(_Model):
    """What is gone."""

    study_name: str
    n_trials: int = Field(description="Trials that were deleted with it.")
    message: str


class TrialSummary(_Model):
    """One trial as stored."""

    number: int
    state: TrialState
    source: str
    params: Params
    value: float | None = None
    std: float | None = None
    folds: list[float] | None = None
    metrics: dict[str, float] | None = None
    error: str | None = None
    cause: str | None = None
    explanation: str | None = Field(default=None, description="Why it was cut.")
    started_at: float
    ended_at: float | None = None


class JobSummary(_Model):
    """One attempt at a trial: the unit that runs in a process of its own."""

    job_id: str
    study_name: str
    trial: int
    attempt: int
    state: AttemptState
    log_path: str
    error: str | None = None
    started_at: float
    ended_at: float | None = None
    seconds: float
    cost_usd: float
