"""What a caller asks of a study: the tool's arguments, a YAML sweep and the library call are this one model."""

from difflib import get_close_matches
from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field, WithJsonSchema, field_validator

from mcp_server.data.spec import DataSpec
from mcp_server.studies.argument_schemas import either
from mcp_server.studies.limits import LIMITS_HELP, Limits, LimitsArgument
from mcp_server.studies.priority import Priority
from mcp_server.studies.pruners import PRUNERS, Median, Pruner
from mcp_server.studies.samplers import SAMPLERS, TPE, Sampler
from mcp_server.studies.space import SearchSpace
from mcp_server.types import Direction, JsonObject, Name, Params, Seconds, shown

_SPACE_HELP = (
    'Replaces the default space, e.g. {"C": {"low": 1e-3, "high": 100, "log": true}, "gamma": ["scale", "auto"]}. '
    "An entry is a range, a list of choices or a fixed value. With estimator auto, names are <estimator>.<parameter>."
)
# Hosts validate what a model writes against the schema, so the schema shows both spellings.
SamplerArgument = Annotated[Sampler, WithJsonSchema(either(*SAMPLERS))]
PrunerArgument = Annotated[Pruner, WithJsonSchema(either(*PRUNERS))]
_OWN_TAGS = ("mlflow.", "mcp.")  # would move or hide runs in MLflow
_RUN_TAGS = frozenset({"agent", "user", "team", "automl", "trial_number", "optuna_study"})
WAIT_LIMIT_S = 40.0  # a call has 45 seconds, and does more than wait

SpaceArgument = Annotated[SearchSpace, WithJsonSchema({"type": "object", "additionalProperties": True})]


class _Model(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Identity(_Model):
    """Which study."""

    study_name: Name = Field(description="Unique in the workspace.")


class SearchOptions(_Model):
    """How to search, and when to stop."""

    model_type: str | None = Field(
        default=None, max_length=60, description='Preset; only "table" for now: give data and target.'
    )
    n_trials: int = Field(
        default=20, ge=1, le=100_000, description="Total, counting earlier trials when a study is resumed."
    )
    epochs_max: int = Field(default=5, ge=1, le=100_000, description="For presets that train in epochs; tables do not.")
    cost_budget_usd: float | None = Field(
        default=None, gt=0, le=1e9, allow_inf_nan=False, description="Stop before the trials cost more."
    )
    estimator: str = Field(
        default="auto", max_length=60, description="Estimator family, or auto to search over families."
    )
    metric: str | None = Field(default=None, max_length=60, description="Chosen from the task when omitted.")
    fixed: Params = Field(default_factory=dict, max_length=100, description="Parameters that keep one value.")
    sampler: SamplerArgument = Field(
        default=TPE(),
        description="A name, or an object with options of that sampler.",
    )
    pruner: PrunerArgument = Field(
        default=Median(),
        description="A name, or an object with options of that pruner.",
    )
    search_space: SpaceArgument | None = Field(default=None, description=_SPACE_HELP)
    baseline: bool = Field(default=True, description="Run the estimator's defaults as trial 0.")
    parallel: int | None = Field(default=None, ge=1, description="Trials at a time; the number of cores when omitted.")
    gpus: int = Field(default=0, ge=0, le=64, description="GPUs for each trial, which sees no others.")
    timeout_s: Seconds | None = Field(default=None, description="Stop the study after this many running seconds.")
    trial_timeout_s: Seconds | None = Field(default=None, description="Kill a trial that takes longer.")
    limits: LimitsArgument = Field(default_factory=Limits, description=LIMITS_HELP)

    @field_validator("model_type")
    @classmethod
    def _known_preset(cls, value: str | None) -> str | None:
        if value not in {None, "table"}:
            raise ValueError(f"no preset {shown(value)!r} yet; omit model_type and give data and target")
        return value


class PlanSpec(DataSpec, SearchOptions):
    """A study without a name yet."""


class StudySpec(PlanSpec, Identity):
    """A hyperparameter study of one table."""

    priority: Priority = Field(default="normal", description="Whose trials start first; high is for admins.")
    tags: dict[Name, Annotated[str, Field(max_length=200)]] = Field(
        default_factory=dict, max_length=20, description="Labels for cost reports and MLflow."
    )

    @field_validator("tags")
    @classmethod
    def _free_tags(cls, value: dict[str, str]) -> dict[str, str]:
        if taken := next((name for name in value if name.startswith(_OWN_TAGS) or name in _RUN_TAGS), None):
            raise ValueError(f"the tag {shown(taken)!r} is set by the server; choose another name")
        return value


class CallableStudySpec(StudySpec):
    """A hyperparameter study of a Python function, for library callers: `objective` is `package.module:function`."""

    objective: Annotated[str, Field(pattern=r"^[\w.]+:[\w.]+$")]
    direction: Direction = "maximize"
    python_path: list[str] = Field(default_factory=list, max_length=20)
    payload: dict[str, str | bool | int | float | None] = Field(default_factory=dict)
    preload: list[str] = Field(default_factory=list, max_length=20)


class StudyDefinition(_Model):
    """A study as its runner needs it: every question about data and estimators is answered."""

    spec: CallableStudySpec | StudySpec
    objective: str
    payload: JsonObject
    space: SearchSpace
    metric: str
    direction: Direction
    baseline: Params | None = None
    python_path: list[str] = Field(default_factory=list)
    preload: list[str] = Field(default_factory=list)
    warnings: list[str] = Field(default_factory=list)
    n_steps: int | None = Field(default=None, description="Values that each trial reports, when that is known.")
    design_size: int = Field(default=20, description="Trials that the study began with: a design is laid out for them.")

    @property
    def table(self) -> bool:
        """Whether trials are cross-validated on a table, so that steps are folds."""
        return not isinstance(self.spec, CallableStudySpec)


def did_you_mean(name: str, known: list[str]) -> str:
    """The end of an error message about an unknown name.

    >>> did_you_mean("acuracy", ["accuracy", "f1"])
    'did you mean accuracy?'
    """
    near = get_close_matches(name, known, 1, cutoff=0.5)
    return f"did you mean {near[0]}?" if near else f"known: {', '.join(known)}."
