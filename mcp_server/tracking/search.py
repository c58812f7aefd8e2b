"""Questions about runs, answered by MLflow's client; runs in the reader process."""

from functools import cached_property
from typing import TYPE_CHECKING

from mcp_server.errors import InvalidRequestError, NotFoundError, RunNotFoundError
from mcp_server.tracking.columns import (
    Column,
    KnownKeys,
    cell,
    column_of,
    default_columns,
    number,
    order_of,
    timestamp,
    unknown_column,
)
from mcp_server.tracking.mlflow import local_path, translated
from mcp_server.tracking.projection import KIND_TAG, PARENT_TAG, STUDY_TAG, TRIAL_TAG, UID_TAG
from mcp_server.tracking.queries import PAGE_LIMIT, Artifact, MetricHistory, RunDetails, RunQuery, RunTable
from mcp_server.tracking.target import TrackingTarget
from mcp_server.types import shown

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities import Experiment, Run
    from mlflow.store.entities import PagedList

HISTORY_POINTS = 20
HISTORY_METRICS = 12
CHILD_LIMIT = 1_000
ARTIFACT_LIMIT = 50
TEXT_LIMIT = 500


class RunSearcher:
    """One search: the experiments and keys it may name are looked up as it needs them."""

    def __init__(self, client: "MlflowClient", target: TrackingTarget, query: RunQuery) -> None:
        self._client = client
        self._target = target
        self._query = query

    def table(self) -> RunTable:
        """A page of runs.

        Raises:
            InvalidRequestError: If the filter, a sort term, a column or the cursor cannot be used.
            NotFoundError: If an experiment does not exist.
        """
        query = self._query
        order = [order_of(term, self._known) for term in query.order_by]
        asked = [column_of(name, self._known) for name in query.columns]
        for column in (*asked, *(column for column, _ in order)):
            self._check_exists(column)
        terms = [f"{column.field} {direction}" for column, direction in order]
        runs = self._page(self._filter(query.filter), terms, min(query.limit, PAGE_LIMIT), query.cursor)
        columns = asked or default_columns(list(runs))
        return RunTable(
            backend=self._target.backend,
            columns=[column.label for column in columns],
            rows=[[cell(run, column) for column in columns] for run in runs],
            next_cursor=runs.token or None,
            note=f"A page has at most {PAGE_LIMIT} rows." if query.limit > PAGE_LIMIT else None,
        )

    @cached_property
    def _experiment_ids(self) -> list[str]:
        with translated(self._target):
            found: list[Experiment] = self._client.search_experiments(max_results=1_000)
        ids = {experiment.name: experiment.experiment_id for experiment in found}
        if missing := [name for name in self._query.experiments if name not in ids]:
            raise NotFoundError(
                f"There is no experiment {shown(missing[0])!r}.",
                hint=f"Experiments: {', '.join(shown(name) for name in list(ids)[:20])}.",
            )
        return [ids[name] for name in self._query.experiments] or list(ids.values())

    @cached_property
    def _known(self) -> KnownKeys:
        return KnownKeys.of(self._page(self._filter(""), [], PAGE_LIMIT, None))

    def _check_exists(self, column: Column) -> None:
        if self._known.has(column):
            return
        # The newest runs do not have it; an older one may.
        some = ">= -1.8e308" if column.kind == "metrics" else "IS NOT NULL"
        if not self._page(self._filter(f"{column.field} {some}"), [], 1, None):
            raise unknown_column(column.label, self._known)

    def _filter(self, condition: str) -> str:
        parts = [condition.strip()]
        if (study := self._query.study_name) is not None:
            parts += [f"tags.`{STUDY_TAG}` = '{study}'", f"tags.`{KIND_TAG}` = 'trial'"]
        return " AND ".join(filter(None, parts))

    def _page(self, condition: str, order_by: list[str], limit: int, cursor: str | None) -> "PagedList[Run]":
        try:
            with translated(self._target):
                return self._client.search_runs(
                    self._experiment_ids, condition, max_results=limit, order_by=order_by, page_token=cursor
                )
        except InvalidRequestError as exc:
            raise InvalidRequestError(
                exc.message.replace("MLflow refused it: ", "The search cannot be run: "),
                hint="Filters are comparisons joined by AND, e.g. metrics.accuracy > 0.9 AND params.kernel = 'rbf' "
                "AND tags.optuna_trial = '5'; there is no OR. A cursor is a next_cursor of the same search.",
            ) from None


def run_details(client: "MlflowClient", target: TrackingTarget, run_id: str) -> RunDetails:
    """Everything about one run.

    Raises:
        RunNotFoundError: If there is none with this id.
    """
    try:
        with translated(target):
            run = client.get_run(run_id)
            experiment = client.get_experiment(run.info.experiment_id)
    except InvalidRequestError as exc:
        raise run_not_found(run_id) from exc
    tags = run.data.tags
    artifacts, note = _artifacts(client, target, run)
    with translated(target):
        return RunDetails(
            backend=target.backend,
            run_id=run_id,
            run_name=run.info.run_name,
            experiment=experiment.name,
            status=run.info.status,
            started_at=timestamp(run.info.start_time),
            ended_at=None if run.info.status == "RUNNING" else timestamp(run.info.end_time),
            study_name=tags.get(STUDY_TAG),
            study_id=tags[UID_TAG].split("/")[0] if UID_TAG in tags else None,
            trial=int(tags[TRIAL_TAG]) if tags.get(TRIAL_TAG, "").isdigit() else None,
            parent_run_id=tags.get(PARENT_TAG),
            n_children=_n_children(client, run),
            params={key: shown(value, TEXT_LIMIT) for key, value in sorted(run.data.params.items())},
            metrics={key: number(value) for key, value in sorted(run.data.metrics.items())},
            tags={key: shown(tags[key], TEXT_LIMIT) for key in sorted(tags) if not key.startswith("mlflow.")},
            histories=_histories(client, run),
            artifacts=artifacts,
            note=note,
        )


def run_not_found(run_id: str) -> RunNotFoundError:
    """The error for an id that names no run."""
    return RunNotFoundError(f"There is no run {run_id}.", hint="Find runs with search_runs.")


def _n_children(client: "MlflowClient", run: "Run") -> int:
    condition = f"tags.`{PARENT_TAG}` = '{run.info.run_id}'"
    return len(client.search_runs([run.info.experiment_id], condition, max_results=CHILD_LIMIT))


def _histories(client: "MlflowClient", run: "Run") -> list[MetricHistory]:
    histories = []
    for metric in sorted(run.data.metrics)[:HISTORY_METRICS]:
        points = sorted(client.get_metric_history(run.info.run_id, metric), key=lambda point: point.step)
        if len(points) > 1:
            count = min(len(points), HISTORY_POINTS)
            kept = [points[round(i * (len(points) - 1) / (count - 1))] for i in range(count)]
            histories.append(
                MetricHistory(
                    metric=metric,
                    n_points=len(points),
                    steps=[point.step for point in kept],
                    values=[number(point.value) for point in kept],
                )
            )
    return histories


def _artifacts(client: "MlflowClient", target: TrackingTarget, run: "Run") -> tuple[list[Artifact], str | None]:
    folder = local_path(run.info.artifact_uri)
    root = target.artifacts
    # A run that somebody else wrote can name any folder of this machine as its own.
    if folder is not None and (root is None or not folder.resolve().is_relative_to(root.resolve())):
        return [], "The run's artifacts lie outside the artifact folder of this workspace and are not listed."
    with translated(target):
        found = client.list_artifacts(run.info.run_id)
    return [Artifact(path=file.path, is_dir=file.is_dir, bytes=file.file_size) for file in found[:ARTIFACT_LIMIT]], None
