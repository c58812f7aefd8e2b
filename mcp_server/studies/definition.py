"""From what a caller asked to what a runner needs: questions about data, estimators and metrics end here."""

from pydantic import BaseModel, ValidationError

from mcp_server.data.spec import PreparedData
from mcp_server.distributions import Categorical, Distribution, Fixed
from mcp_server.errors import InvalidRequestError
from mcp_server.studies.space import SearchSpace
from mcp_server.studies.spec import CallableStudySpec, PlanSpec, StudyDefinition, StudySpec, did_you_mean
from mcp_server.training import metrics
from mcp_server.training.estimators import (
    AUTO,
    baseline_params,
    family,
    parameter_names,
    resolve_estimator,
    search_space,
)
from mcp_server.types import Params, shown

CROSS_VALIDATE = "mcp_server.training.objective:cross_validate"
PRELOAD = ["mcp_server.training.objective", "mcp_server.training.preload"]


def define(spec: StudySpec, data: PreparedData) -> StudyDefinition:
    """The definition of a study on prepared data.

    Raises:
        InvalidRequestError: If the estimator, the metric, a parameter or the space does not fit the data or each other.
    """
    estimator = resolve_estimator(spec.estimator, data.task)
    metric = (
        metrics.resolve(spec.metric, data.task, len(data.classes))
        if spec.metric
        else metrics.default_metric(data.task, len(data.classes))
    )
    space = _space(spec, estimator, data)
    baseline = baseline_params(estimator, data.task, list(space.root)) if spec.baseline else None
    spec.sampler.check(space)
    spec.pruner.check(data.n_folds)
    return StudyDefinition(
        spec=spec,
        objective=CROSS_VALIDATE,
        payload={
            "folder": data.folder,
            "estimator": estimator,
            "fixed": {**spec.fixed},
            "metric": metric.name,
            "seed": spec.seed,
        },
        space=space,
        metric=metric.name,
        direction=metric.direction,
        baseline=None if baseline is None else _without(baseline, spec.fixed),
        preload=PRELOAD,
        warnings=[*data.warnings, *space.warnings()],
        n_steps=data.n_folds,
        design_size=spec.n_trials,
    )


def define_callable(spec: CallableStudySpec) -> StudyDefinition:
    """The definition of a study of a Python function.

    Raises:
        InvalidRequestError: If it has no search space.
    """
    if spec.search_space is None or not spec.search_space.root:
        raise InvalidRequestError("A study of a function needs a search_space.", hint="Name at least one parameter.")
    spec.sampler.check(spec.search_space)
    spec.pruner.check(None)
    return StudyDefinition(
        spec=spec,
        objective=spec.objective,
        payload={**spec.payload},
        space=spec.search_space,
        metric=spec.metric or "value",
        direction=spec.direction,
        python_path=spec.python_path,
        preload=spec.preload,
        warnings=spec.search_space.warnings(),
        design_size=spec.n_trials,
    )


def changes(spec: PlanSpec, earlier: PlanSpec, earlier_space: SearchSpace) -> list[str]:
    """How `spec` differs from the study it would resume, in the fields the caller set; limits may change."""
    free = {
        "n_trials",
        "timeout_s",
        "trial_timeout_s",
        "parallel",
        "cost_budget_usd",
        "epochs_max",
        "study_name",
        "limits",
        "tags",
        "priority",
    }
    found = []
    for name in sorted(spec.model_fields_set - free):
        mine, theirs = getattr(spec, name), getattr(earlier, name, None)
        if name == "search_space" and mine is not None:
            # What was asked then may be less than what is searched: `auto` fills in the rest.
            found += [f"search_space {difference}" for difference in (theirs or earlier_space).differences(mine)]
        elif mine != theirs:
            found.append(f"{name}: {shown(_plain(theirs))} -> {shown(_plain(mine))}")
    return found


def _plain(value: object) -> object:
    return value.model_dump() if isinstance(value, BaseModel) else value


def _space(spec: StudySpec, estimator: str, data: PreparedData) -> SearchSpace:
    if estimator == AUTO and "estimator" in spec.fixed:
        only = shown(spec.fixed["estimator"])
        raise InvalidRequestError("With one estimator fixed there is none to choose.", hint=f'Pass estimator="{only}".')
    default = search_space(estimator, data.task, data.n_rows, len(data.columns))
    known = parameter_names(estimator, data.task)
    for name in (*spec.fixed, *(spec.search_space.root if spec.search_space else ())):
        if name not in known:
            raise InvalidRequestError(
                f"{estimator} has no parameter {shown(name)!r}.", hint=did_you_mean(name, sorted(known)).capitalize()
            )
    if spec.search_space is None:
        entries = default
    elif estimator == AUTO:
        entries = _narrowed(default, spec.search_space, data)
    else:
        entries = dict(spec.search_space.root)
    entries = {name: entry for name, entry in entries.items() if name not in spec.fixed}
    if not entries:
        raise InvalidRequestError("Nothing is left to search.", hint="Fix fewer parameters, or give a search_space.")
    try:
        return SearchSpace(entries)
    except ValidationError as exc:  # what was asked does not go together with what is fixed or searched by default
        reason = exc.errors(include_url=False)[0]["msg"].removeprefix("Value error, ")
        raise InvalidRequestError(
            f"The search space does not hold together: {reason}.", hint="Correct search_space or fixed."
        ) from exc


def _narrowed(default: dict[str, Distribution], asked: SearchSpace, data: PreparedData) -> dict[str, Distribution]:
    """The default space over families with the asked entries in place of the default ones."""
    kept = default
    if families := asked.root.get("estimator"):
        kept = _over_families(_families(families), data)
    for name, entry in asked.root.items():
        if name == "estimator":
            continue
        when = entry.when or {"estimator": [name.split(".")[0]]}
        kept[name] = entry.model_copy(update={"when": when})
    return kept


def _families(asked: Distribution) -> tuple[str, ...]:
    if not isinstance(asked, Categorical | Fixed):
        raise InvalidRequestError("estimator is no number.", hint='For example "estimator": ["knn", "random_forest"].')
    named = asked.choices if isinstance(asked, Categorical) else (asked.value,)
    return tuple(dict.fromkeys(family(str(name)).name for name in named))


def _over_families(names: tuple[str, ...], data: PreparedData) -> dict[str, Distribution]:
    space: dict[str, Distribution] = {"estimator": Categorical(choices=names)}
    for name in names:
        for parameter, entry in search_space(name, data.task, data.n_rows, len(data.columns)).items():
            space[f"{name}.{parameter}"] = entry.model_copy(update={"when": {"estimator": [name]}})
    return space


def _without(params: Params, fixed: Params) -> Params:
    return {name: value for name, value in params.items() if name not in fixed}
