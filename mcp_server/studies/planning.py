"""Plans: what a study would do and take, kept so that `start` can refer to one."""

import math
import secrets
import time

from sqlalchemy import insert, select

from mcp_server.data.spec import PreparedData
from mcp_server.data.text import label
from mcp_server.distributions import Categorical, Distribution, Fixed
from mcp_server.errors import InvalidRequestError, NotFoundError
from mcp_server.settings import Settings
from mcp_server.store import Store
from mcp_server.store.schema import plans
from mcp_server.studies.analyst import Analyst
from mcp_server.studies.costs import spent_by_team
from mcp_server.studies.definition import define
from mcp_server.studies.machine import Machine, gpu_model
from mcp_server.studies.prices import Prices
from mcp_server.studies.spec import PlanSpec, StudyDefinition, StudySpec
from mcp_server.studies.summary import PlanSummary, Table
from mcp_server.studies.team_budget import month_start
from mcp_server.training.estimators import AUTO
from mcp_server.types import Scalar, shown

_SHORT_S = 1.5  # of a start, which answers in two seconds


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
        machine = Machine.of(self._settings)
        machine.check(spec.parallel, gpus=spec.gpus, force=True)
        study = StudySpec(study_name="plan", **_given(spec))
        data = self._analyst.prepare(study)
        definition = define(study, data)
        families = _families(definition)
        prices = Prices.load(self._settings)
        estimate = self._analyst.estimate(data.folder, families, definition.metric)
        plan_id = f"p-{secrets.token_hex(4)}"
        with self._store.write() as connection:
            kept = spec.model_dump(mode="json", include=spec.model_fields_set)
            connection.execute(insert(plans).values(id=plan_id, owner=owner, spec=kept, created_at=time.time()))
        parallel = spec.parallel or machine.parallel(spec.gpus)
        n_trials = self._n_trials(definition)
        rounds = math.ceil(n_trials / parallel)
        total = [_rounded(seconds * rounds) for seconds in (estimate.low, estimate.median, estimate.high)]
        threads = max(1, machine.cores // parallel)
        rate = n_trials * prices.usd_per_second(threads, [gpu_model(gpu) for gpu in machine.gpus[: spec.gpus]])
        cost = [round(seconds * rate, 4) for seconds in (estimate.low, estimate.median, estimate.high)]
        return PlanSummary(
            plan_id=plan_id,
            message=_sentence(
                definition,
                data,
                families,
                n_trials,
                total,
                parallel,
                cost,
                self._rules(prices, spec.cost_budget_usd, cost[1]),
            ),
            task=data.task,
            target=label(data.target),
            metric=definition.metric,
            direction=definition.direction,
            n_rows=data.n_rows,
            n_sealed=data.n_sealed,
            validation=_validation(data),
            estimators=families,
            parameters=_parameters(definition) if len(families) == 1 else None,
            n_trials=n_trials,
            parallel=parallel,
            seconds_per_trial=_rounded(estimate.median),
            estimated_s=total,
            estimated_cost_usd=cost,
            notes=data.notes or None,
            warnings=definition.warnings or None,
            next_step=f'start_automl_study(study_name=..., plan_id="{plan_id}")',
        )

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
        machine, spec = Machine.of(self._settings), definition.spec
        estimate = self._analyst.estimate(data.folder, _families(definition), definition.metric, budget_s=_SHORT_S)
        threads = max(1, machine.cores // (spec.parallel or machine.parallel(spec.gpus)))
        models = [gpu_model(gpu) for gpu in machine.gpus[: spec.gpus]]
        rate = Prices.load(self._settings).usd_per_second(threads, models)
        return estimate.median * self._n_trials(definition) * rate

    def _rules(self, prices: Prices, budget: float | None, likely: float) -> str:
        """What the team's budget and the rule about approvals mean for this study, in sentences."""
        team, text = self._settings.team, ""
        if (monthly := prices.monthly_usd(team)) is not None:
            with self._store.read() as connection:
                left = monthly - spent_by_team(connection, team, month_start(time.time()))
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


def _sentence(  # noqa: PLR0917 - the facts of one sentence
    definition: StudyDefinition,
    data: PreparedData,
    families: list[str],
    n_trials: int,
    total: list[float],
    parallel: int,
    cost: list[float],
    rules: str,
) -> str:
    verb = "Classify" if data.task == "classification" else "Predict"
    sealed = f"{data.n_sealed:,} rows sealed for a final test" if data.n_sealed else "no rows sealed for a final test"
    return (
        f"{verb} {label(data.target)} from {len(data.columns)} columns and {data.n_rows:,} rows "
        f"by {definition.metric}, {_validation(data)}, {sealed}. "
        f"{n_trials} trials over {len(families)} kinds of model, {parallel} at a time: "
        f"about {_duration(total[1])} ({_duration(total[0])} to {_duration(total[2])}), {_dollars(cost)}. {rules}"
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
