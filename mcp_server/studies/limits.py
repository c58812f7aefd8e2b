"""What a study may use, and when it has found enough: the limits beyond trials, seconds and US dollars."""

from typing import Annotated, Literal

from pydantic import AwareDatetime, BaseModel, ConfigDict, Field, WithJsonSchema

from mcp_server.studies.argument_schemas import compact

Count = Annotated[int, Field(ge=1, le=100_000)]


class Limits(BaseModel):
    """Optional limits of a study and of each of its trials; what is not given has no limit."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    failures: Count | None = Field(default=None, description="Failed trials in all.")
    consecutive_failures: Count | None = Field(default=None, description="Failed trials in a row.")
    deadline: AwareDatetime | None = Field(default=None, description="Moment in ISO 8601 with its time zone.")
    cpu_seconds: float | None = Field(
        default=None, gt=0, le=1e12, allow_inf_nan=False, description="Processor seconds of all attempts."
    )
    target: float | None = Field(default=None, allow_inf_nan=False, description="Stop when a trial is this good.")
    patience: Count | None = Field(
        default=None, description="Stop when so many completed trials in a row did not improve the best."
    )
    min_trials: int = Field(default=0, ge=0, le=100_000, description="Completed trials before patience or plateau.")
    min_delta: float = Field(default=0.0, ge=0, allow_inf_nan=False, description="A smaller gain is no improvement.")
    plateau: Count | None = Field(
        default=None, description="Stop when the best values of so many trials lie within min_delta of each other."
    )
    trial_memory_mb: int | None = Field(
        default=None, ge=16, le=100_000_000, description="Memory of one trial with all it starts, in MB."
    )
    trial_disk_mb: int | None = Field(
        default=None, ge=10, le=100_000_000, description="What the files of one trial may take, in MB."
    )
    at_limit: Literal["prune", "drain", "kill"] = Field(
        default="prune", description="What becomes of running trials: cut at their next report, left to end, or killed."
    )


LimitsArgument = Annotated[Limits, WithJsonSchema(compact(Limits))]
LIMITS_HELP = (
    "Stop on failures, consecutive_failures, deadline (ISO 8601 with zone), cpu_seconds, target (good enough), "
    "patience (trials without a gain above min_delta, after min_trials) or plateau. "
    "at_limit: what becomes of running trials. trial_memory_mb, trial_disk_mb: kill a trial that takes more."
)
