"""Tools that look at data, plan, run and read studies."""

import time
from typing import Annotated, Literal

from pydantic import Field

from mcp_server.access import Permission
from mcp_server.data.profile import DatasetProfile
from mcp_server.data.spec import Encoding, Separator
from mcp_server.studies.orders import Order
from mcp_server.studies.spec import WAIT_LIMIT_S, PlanSpec, StudySpec
from mcp_server.studies.summary import BestParams, DeletedStudy, PlanSummary, StudyList, StudyStatus, TrialTable
from mcp_server.tools._toolset import Call, Toolset
from mcp_server.types import Name

toolset = Toolset("tuning", default=True)

StudyName = Annotated[Name, Field(description="An existing study.")]
Wait = Annotated[
    float,
    Field(ge=0, le=45, allow_inf_nan=False, description="Seconds to wait for the end of the study."),
]


class StartSpec(StudySpec):
    """A study to start, or to continue."""

    plan_id: str | None = Field(default=None, max_length=40, description="Start what plan_automl_study planned.")
    wait_s: Wait = 0.0
    idempotency_key: str | None = Field(
        default=None, min_length=1, max_length=200, description="The same key never starts a second study."
    )
    force: bool = Field(default=False, description="Allow more parallel trials than cores.")


@toolset.tool(Permission.READ, title="Inspect a data set")
def inspect_dataset(
    call: Call,
    data: Annotated[str, Field(max_length=4096, description="Path of a CSV, TSV or Parquet file, or sklearn:<name>.")],
    target: Annotated[str | None, Field(max_length=500, description="Column to predict, if known.")] = None,
    encoding: Annotated[Encoding | None, Field(description="Of the text, when it is not UTF-8.")] = None,
    separator: Annotated[Separator | None, Field(description="Between values; found out when omitted.")] = None,
) -> DatasetProfile:
    """Look at a table before tuning: columns, missing values, likely targets, class balance, and traps.

    Columns that give the answer away, identifiers and duplicates are named in plain sentences; pass them as `drop`.
    """
    return call.workspace.inspect(data, target, encoding=encoding, separator=separator)


@toolset.tool(Permission.PLAN, title="Plan a tuning study")
def plan_automl_study(call: Call, spec: PlanSpec) -> PlanSummary:
    """Plan a hyperparameter study on a table: models, search space, validation, time and cost. Nothing is started.

    Start it with start_automl_study and the plan_id of the answer.
    """
    return call.workspace.studies.plan(spec, call.principal.name)


@toolset.tool(Permission.TUNE, title="Start a tuning study", idempotent=True)
def start_automl_study(call: Call, spec: StartSpec) -> StudyStatus:
    """Optimize hyperparameters in the background: find the best model and parameters for a table, or resume a study.

    Answers at once while trials run in parallel processes that survive disconnects. Give data and target, or a
    plan_id. To resume a study with N total trials, pass its name and a larger n_trials. Trial 0 is the baseline.
    """
    began = time.monotonic()
    own = {name: getattr(spec, name) for name in spec.model_fields_set if name in StudySpec.model_fields}
    studies = call.workspace.studies
    status = studies.start(
        StudySpec(**own),
        call.principal,
        plan_id=spec.plan_id,
        idempotency_key=spec.idempotency_key,
        force=spec.force,
    )
    call.workspace.expect_questions()
    if not spec.wait_s:
        return status
    taken = time.monotonic() - began  # reading a large table counts, too: a call has an end
    studies.wait(status.study_name, min(spec.wait_s, WAIT_LIMIT_S) - taken, call.progress)
    return studies.read.status(status.study_name)


@toolset.tool(Permission.READ, title="Status of a tuning study")
def get_automl_study_status(
    call: Call,
    study_name: StudyName,
    wait_s: Wait = 0.0,
    detail: Annotated[
        Literal["digest", "full"], Field(description="full adds the whole configuration of the study.")
    ] = "digest",
) -> StudyStatus:
    """How a study is going: trials done, best value with its noise, best parameters, cost, and what to do next."""
    studies = call.workspace.studies
    if wait_s:
        studies.wait(study_name, wait_s, call.progress)
    return studies.read.status(study_name, full=detail == "full")


@toolset.tool(Permission.READ, title="List tuning studies")
def list_automl_studies(
    call: Call,
    limit: Annotated[int, Field(ge=1, le=100, description="Studies per page.")] = 20,
    cursor: Annotated[str | None, Field(max_length=100, description="next_cursor of the previous page.")] = None,
) -> StudyList:
    """All studies, newest first, with their trial counts and best values."""
    return call.workspace.studies.read.page(limit, cursor)


class ControlSpec(Order):
    """What to tell a study."""

    study_name: StudyName
    wait_s: Wait = 0.0


@toolset.tool(Permission.TUNE, title="Control a tuning study")
def control_automl_study(call: Call, spec: ControlSpec) -> StudyStatus:
    """Pause, resume, stop, extend or steer a study while it runs, or test its winner."""
    studies = call.workspace.studies
    status = studies.control(spec.study_name, spec.action, call.principal, **spec.given())
    if not spec.wait_s:
        return status
    wait = studies.settle if spec.action == "final_test" else studies.wait
    wait(spec.study_name, spec.wait_s, call.progress)
    return studies.read.status(spec.study_name).model_copy(update={"note": status.note})


@toolset.tool(Permission.DELETE, title="Delete a tuning study", destructive=True)
def delete_automl_study(
    call: Call,
    study_name: StudyName,
    confirm: Annotated[str, Field(max_length=200, description="The same name again.")],
) -> DeletedStudy:
    """Delete a study for good: its trials, logs and MLflow runs."""
    return call.workspace.studies.delete(study_name, call.principal, confirm=confirm)


@toolset.tool(Permission.READ, title="Compare the best trials")
def compare_automl_trials(
    call: Call,
    study_name: StudyName,
    top_k: Annotated[int, Field(ge=1, le=100, description="How many of the best trials.")] = 5,
) -> TrialTable:
    """The best trials of a study side by side: value, spread over the folds, and parameters."""
    return call.workspace.studies.read.compare(study_name, top_k)


@toolset.tool(Permission.READ, title="Best parameters of a study")
def get_automl_best_params(
    call: Call,
    study_name: StudyName,
    within_usd: Annotated[float | None, Field(gt=0, description="Best of what was found for this much.")] = None,
) -> BestParams:
    """The best parameters found, ready for training, with their noise and the gain over the defaults."""
    return call.workspace.studies.read.best(study_name, within_usd=within_usd)
