"""MLflow as the tracking store, through its client alone: the fluent API keeps its state in globals."""

import hashlib
import json
import re
import sqlite3
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from mcp_server.errors import BackendUnavailableError, InvalidRequestError, MissingDependencyError
from mcp_server.tracking import database, environment
from mcp_server.tracking._base import Point, RunContent, RunStatus
from mcp_server.tracking.projection import UID_TAG
from mcp_server.tracking.records import DatasetRef
from mcp_server.tracking.target import TrackingTarget

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities import DatasetInput, Metric

DIGEST_LIMIT = 36
CONFIG_FILE = "config.json"
DELETED_AT_ONCE = 200
_PROBE_BYTES = 65_536

_REFUSALS = frozenset(
    {
        "INVALID_PARAMETER_VALUE",
        "BAD_REQUEST",
        "MALFORMED_REQUEST",
        "INVALID_STATE",
        "RESOURCE_ALREADY_EXISTS",
        "RESOURCE_DOES_NOT_EXIST",
    }
)


def open_client(target: TrackingTarget) -> "MlflowClient":
    """A client of the store, whose database is made first if it is a SQLite file that is not there.

    Raises:
        BackendUnavailableError: If the store cannot be opened.
        ConflictError: If another version of mlflow wrote the database.
    """
    environment.prepare()
    database.use_fast_journal()
    if target.database is not None and target.artifacts is not None:
        database.prepare_database(target.database, target.artifacts)
    from mlflow import MlflowClient

    with translated(target), _drivers():
        return MlflowClient(tracking_uri=target.uri, registry_uri=target.uri)


@contextmanager
def translated(target: TrackingTarget) -> Iterator[None]:
    """Turn what mlflow raises into errors of ours: not now (unavailable) or never (refused), without credentials."""
    from mlflow.exceptions import MlflowException
    from sqlalchemy.exc import SQLAlchemyError

    try:
        yield
    except MlflowException as exc:
        if exc.error_code in _REFUSALS:
            raise InvalidRequestError(f"MLflow refused it: {target.cleaned(exc.message)}") from None
        raise _unavailable(target, exc) from None
    except (OSError, SQLAlchemyError, sqlite3.Error) as exc:
        raise _unavailable(target, exc) from None
    except (TypeError, ValueError) as exc:
        raise InvalidRequestError(f"MLflow cannot store it: {target.cleaned(str(exc))}") from None


@contextmanager
def _drivers() -> Iterator[None]:
    try:
        yield
    except ModuleNotFoundError as exc:
        raise MissingDependencyError(
            f"The tracking store needs the package {exc.name}, which is not installed.",
            hint="For PostgreSQL: pip install 'tuning-mcp[postgres]' and write postgresql+psycopg://...",
        ) from exc


def _unavailable(target: TrackingTarget, exc: Exception) -> BackendUnavailableError:
    from requests import RequestException

    # mlflow wraps transport faults in a text with the whole URL; the original is only in the context.
    fault = exc if isinstance(exc, RequestException) else exc.__context__
    reason = type(fault).__name__ if isinstance(fault, RequestException) else target.cleaned(str(exc))
    return BackendUnavailableError(
        f"The MLflow store at {target.place} does not answer: {reason}.",
        hint="Nothing is lost; records wait and are sent when it is back.",
    )


class MlflowTracker:
    """A `Tracker` on an MLflow store."""

    def __init__(self, target: TrackingTarget) -> None:
        self._target = target
        self._client = open_client(target)
        self._experiments: dict[str, str] = {}
        self._folders: dict[str, Path] = {}

    def create_run(self, content: RunContent) -> str:
        """See `Tracker`."""
        with translated(self._target):
            experiment_id = self._experiment(content.experiment)
            run = self._client.create_run(
                experiment_id, start_time=content.started_ms, tags=content.tags, run_name=content.name
            )
            if folder := local_path(run.info.artifact_uri):
                self._folders[run.info.run_id] = folder
            return str(run.info.run_id)

    def find_run(self, content: RunContent) -> str | None:
        """See `Tracker`."""
        from mlflow.entities import ViewType

        with translated(self._target):
            found = self._client.search_runs(
                [self._experiment(content.experiment)],
                f"tags.`{UID_TAG}` = '{content.uid}'",
                run_view_type=ViewType.ALL,
                max_results=1,
            )
        return found[0].info.run_id if found else None

    def write(self, run_id: str, content: RunContent) -> None:
        """See `Tracker`."""
        from mlflow.entities import Param

        with translated(self._target):
            params = [Param(key, value) for key, value in content.params.items()]
            self._client.log_batch(run_id, metrics=_metrics(content.points), params=params)
            if content.dataset is not None:
                self._client.log_inputs(run_id, [_dataset(content.dataset)])
            if content.config:
                self._write_config(run_id, json.dumps(content.config, indent=1, sort_keys=True))
            if content.ended_ms is not None:
                self._client.set_terminated(run_id, content.status, content.ended_ms)

    def add(self, run_id: str, points: list[Point], tags: dict[str, str]) -> None:
        """See `Tracker`."""
        from mlflow.entities import RunTag

        with translated(self._target):
            new_tags = [RunTag(key, value) for key, value in tags.items()]
            self._client.log_batch(run_id, metrics=_metrics(points), tags=new_tags)

    def end(self, run_id: str, status: RunStatus, ended_ms: int) -> None:
        """See `Tracker`."""
        with translated(self._target):
            self._client.set_terminated(run_id, status, ended_ms)

    def reopen(self, run_id: str) -> None:
        """See `Tracker`. MLflow keeps the old end time until the next one."""
        with translated(self._target):
            self._client.update_run(run_id, status="RUNNING")

    def delete(self, experiment: str, uid: str) -> None:
        """See `Tracker`. MLflow keeps deleted runs until `mlflow gc` removes them."""
        with translated(self._target):
            found = self._client.get_experiment_by_name(experiment)
            if found is None:
                return
            mine = f"tags.`{UID_TAG}` LIKE '{uid}%'"
            while runs := self._client.search_runs([found.experiment_id], mine, max_results=DELETED_AT_ONCE):
                for run in runs:
                    if run.info.status == "RUNNING":
                        self._client.set_terminated(run.info.run_id, "KILLED")
                    self._client.delete_run(run.info.run_id)

    def tidy(self) -> None:
        """See `Tracker`."""
        if self._target.database is not None:
            with translated(self._target):
                database.keep_statistics(self._target.database)

    def check(self) -> None:
        """See `Tracker`."""
        with translated(self._target):
            self._client.search_experiments(max_results=1)
            if self._target.artifacts is not None:
                self._target.artifacts.mkdir(parents=True, exist_ok=True)
                with tempfile.TemporaryFile(dir=self._target.artifacts) as probe:
                    probe.write(b"." * _PROBE_BYTES)

    def _write_config(self, run_id: str, text: str) -> None:
        folder = self._folders.pop(run_id, None)
        if folder is None:
            self._client.log_text(run_id, text, CONFIG_FILE)
            return
        folder.mkdir(parents=True, exist_ok=True)  # as log_text does after reading the run from the store: 4 ms more
        (folder / CONFIG_FILE).write_text(text, encoding="utf-8")

    def _experiment(self, name: str) -> str:
        if name not in self._experiments:
            self._experiments[name] = self._found_or_made(name)
        return self._experiments[name]

    def _found_or_made(self, name: str) -> str:
        from mlflow.exceptions import MlflowException

        if (found := self._client.get_experiment_by_name(name)) is None:
            try:
                return str(self._client.create_experiment(name, artifact_location=self._artifact_location(name)))
            except MlflowException as exc:
                found = self._client.get_experiment_by_name(name)
                if exc.error_code != "RESOURCE_ALREADY_EXISTS" or found is None:
                    raise
        if found.lifecycle_stage == "deleted":  # MLflow keeps the name taken and refuses runs until it is restored
            self._client.restore_experiment(found.experiment_id)
        return str(found.experiment_id)

    def _artifact_location(self, experiment: str) -> str | None:
        if self._target.artifacts is None:
            return None
        return (self._target.artifacts / _folder(experiment)).as_uri()


def _folder(experiment: str) -> str:
    digest = hashlib.sha256(experiment.encode()).hexdigest()[:8]
    return f"{re.sub(r'[^A-Za-z0-9_-]+', '-', experiment)[:40]}-{digest}"


def _metrics(points: list[Point]) -> "list[Metric]":
    from mlflow.entities import Metric

    return [Metric(point.key, point.value, point.at_ms, point.step) for point in points]


def _dataset(dataset: DatasetRef) -> "DatasetInput":
    from mlflow.entities import Dataset, DatasetInput, InputTag

    profile = {"num_rows": dataset.n_rows, "num_columns": dataset.n_columns, "target": dataset.target}
    return DatasetInput(
        Dataset(
            name=dataset.name[:500],
            digest=dataset.digest[:DIGEST_LIMIT],
            source_type="external" if "://" in dataset.source else "local",
            source=json.dumps({"uri": dataset.source, "digest": dataset.digest}),
            profile=json.dumps(profile),
        ),
        [InputTag("mlflow.data.context", "training")],
    )


def local_path(uri: str) -> Path | None:
    """The path of a `file:` URI or a plain path; None for anything remote."""
    from mlflow.utils.file_utils import local_file_uri_to_path
    from mlflow.utils.uri import is_local_uri

    return Path(local_file_uri_to_path(uri)) if is_local_uri(uri) else None
