"""Plans: what a study would do and take, kept so that `start` can refer to one."""

import math
import secrets
import time
from dataclasses import dataclass

from sqlalchemy import insert, select

from mcp_server.data.spec import PreparedData
from mcp_server.data.text import label
from mcp_server.distributions import Categorical, Distribution, Fixed
from mcp_server.errors import InvalidRequestError, NotFoundError
from mcp_server.settings import Settings
from mcp_server.store import Store
from mcp_server.store.schema import plans
from mcp_server.studies.analyst import Analyst
from mcp_server.studies.costs import spent_this_month
from mcp_server.studies.definition import define
from mcp_server.studies.machine import Machine, gpu_model
from mcp_server.studies.prices import Prices
from mcp_server.studies.spec import PlanSpec, StudyDefinition, StudySpec
from mcp_server.studies.summary import PlanSummary, Table
from mcp_server.training.estimators import AUTO
from mcp_server.types import Scalar, shown

_SHORT_S = 1.5  # of a start, which answers in two seconds


@dataclass(frozen=True)
class _Expected:
    """What a study will take: totals are low, likely and high."""

    n_trials: int
    parallel: int
    seconds_per_trial: float
    total_s: list[float]
    cost_usd: list[float]


class Planner:
    """Makes plans and finds them again."""

    def __init__(self, store: Store, settings: Settings, analyst: Analyst) -> None:
        self._store = store
        self._settings = settings
        self._analyst = analyst

    def plan(self, spec: PlanSpec, owner: str) -> PlanSummary:
        """The plan, after a short measurement on a sample of the data.

        Raises:
            InvalidRequestError: If data or target is missing, or something does not fit.
        """
        if spec.data is None or spec.target is None:
            raise InvalidRequestError(
                "A plan needs data and target.", hint='For example data="churn.csv", target="churn".'
            )
        Machine.of(self._settings).check(spec.parallel, gpus=spec.gpus, force=True)
        study = StudySpec(study_name="plan", **_given(spec))
        data = self._analyst.prepare(study)
        definition = define(study, data)
        expected = self._expected(definition, data)
        plan_id = self._keep(spec, owner)
        families = _families(definition)
        return PlanSummary(
            plan_id=plan_id,
            message=_sentence(definition, data, expected, self._rules(spec.cost_budget_usd, expected.cost_usd[1])),
            task=data.task,
            target=label(data.target),
            metric=definition.metric,
            direction=definition.direction,
            n_rows=data.n_rows,
            n_sealed=data.n_sealed,
            validation=_validation(data),
            estimators=families,
            parameters=_parameters(definition) if len(families) == 1 else None,
            n_trials=expected.n_trials,
            parallel=expected.parallel,
            seconds_per_trial=expected.seconds_per_trial,
            estimated_s=expected.total_s,
            estimated_cost_usd=expected.cost_usd,
            notes=data.notes or None,
            warnings=definition.warnings or None,
            next_step=f'start_automl_study(study_name=..., plan_id="{plan_id}")',
        )

    def _keep(self, spec: PlanSpec, owner: str) -> str:
        """The id under which `apply` finds the plan."""
        plan_id = f"p-{secrets.token_hex(4)}"
        kept = spec.model_dump(mode="json", include=spec.model_fields_set)
        with self._store.write() as connection:
            connection.execute(insert(plans).values(id=plan_id, owner=owner, spec=kept, created_at=time.time()))
        return plan_id

    def apply(self, plan_id: str, spec: StudySpec) -> StudySpec:
        """The planned study under the name of `spec`; what `spec` sets itself goes first.

        Raises:
            NotFoundError: If there is no such plan.
        """
        with self._store.read() as connection:
            planned = connection.scalar(select(plans.c.spec).where(plans.c.id == plan_id))
        if planned is None:
            raise NotFoundError(f"There is no plan {shown(plan_id)!r}.", hint="Make one with plan_automl_study.")
        return StudySpec.model_validate({**planned, **_given(spec)})

    def expected_usd(self, definition: StudyDefinition, data: PreparedData) -> float:
        """What a study of a table is likely to cost, after a short measurement on a sample of it."""
        return self._expected(definition, data, budget_s=_SHORT_S).cost_usd[1]

    def _expected(self, definition: StudyDefinition, data: PreparedData, *, budget_s: float = 5.0) -> _Expected:
        machine, spec = Machine.of(self._settings), definition.spec
        estimate = self._analyst.estimate(data.folder, _families(definition), definition.metric, budget_s=budget_s)
        seconds = (estimate.low, estimate.median, estimate.high)
        n_trials, parallel = self._n_trials(definition), spec.parallel or machine.parallel(spec.gpus)
        usd_per_second = Prices.load(self._settings).usd_per_second(
            machine.threads(parallel), map(gpu_model, machine.gpus[: spec.gpus])
        )
        return _Expected(
            n_trials=n_trials,
            parallel=parallel,
            seconds_per_trial=_rounded(estimate.median),
            total_s=[_rounded(each * math.ceil(n_trials / parallel)) for each in seconds],
            cost_usd=[round(each * n_trials * usd_per_second, 4) for each in seconds],
        )

    def _rules(self, budget: float | None, likely: float) -> str:
        """What the team's budget and the rule about approvals mean for this study, in sentences."""
        prices, team, text = Prices.load(self._settings), self._settings.team, ""
        if (monthly := prices.monthly_usd(team)) is not None:
            with self._store.read() as connection:
                left = monthly - spent_this_month(connection, team)
            text += f"{team} has ${max(0.0, left):.2f} of ${monthly:.2f} left this month. "
        free = prices.free_of_approval_usd(team)
        if free is not None and min(likely, likely if budget is None else budget) > free:
            text += f"Above ${free:.2f} it waits until an admin approves it. "
        return text

    def _n_trials(self, definition: StudyDefinition) -> int:
        size = definition.spec.sampler.size(definition.space)
        if size is None:
            return definition.spec.n_trials
        return min(definition.spec.n_trials, size + (definition.baseline is not None))


def _given(spec: PlanSpec) -> dict[str, object]:
    return {name: getattr(spec, name) for name in spec.model_fields_set if name in StudySpec.model_fields}


def _families(definition: StudyDefinition) -> list[str]:
    chosen = definition.space.root.get("estimator")
    estimator = str(definition.payload["estimator"])
    if estimator != AUTO:
        return [estimator]
    if isinstance(chosen, Fixed):
        return [str(chosen.value)]
    return [str(choice) for choice in chosen.choices] if isinstance(chosen, Categorical) else [estimator]


def _validation(data: PreparedData) -> str:
    return {
        "kfold": f"{data.n_folds}-fold cross-validation",
        "time": f"{data.n_folds} later blocks in time",
        "holdout": "the given validation table",
    }[data.fold_kind]


def _sentence(definition: StudyDefinition, data: PreparedData, expected: _Expected, rules: str) -> str:
    low, likely, high = map(_duration, expected.total_s)
    verb = "Classify" if data.task == "classification" else "Predict"
    sealed = f"{data.n_sealed:,} rows sealed for a final test" if data.n_sealed else "no rows sealed for a final test"
    return (
        f"{verb} {label(data.target)} from {len(data.columns)} columns and {data.n_rows:,} rows "
        f"by {definition.metric}, {_validation(data)}, {sealed}. "
        f"{expected.n_trials} trials over {len(_families(definition))} kinds of model, {expected.parallel} at a time: "
        f"about {likely} ({low} to {high}), {_dollars(expected.cost_usd)}. {rules}"
        "Nothing leaves this computer."
    )


def _dollars(cost: list[float]) -> str:
    low, likely, high = (f"${usd:.2f}" for usd in cost)
    return likely if low == high else f"{likely} ({low} to {high})"


def _duration(seconds: float) -> str:
    return f"{seconds:.0f} s" if seconds < 90 else f"{seconds / 60:.0f} min"  # noqa: PLR2004 - where minutes read better


def _rounded(seconds: float) -> float:
    return float(f"{seconds:.2g}")


def _parameters(definition: StudyDefinition) -> Table:
    rows: list[list[Scalar]] = [[name, _range(entry)] for name, entry in definition.space.root.items()]
    return Table(columns=["parameter", "range"], rows=rows)


def _range(entry: Distribution) -> str:
    if isinstance(entry, Fixed):
        return str(entry.value)
    if isinstance(entry, Categorical):
        return " | ".join(str(choice) for choice in entry.choices[:12]) + (" | ..." if len(entry.choices) > 12 else "")  # noqa: PLR2004
    return f"{entry.low:g}..{entry.high:g}" + (" log" if entry.log else "")
