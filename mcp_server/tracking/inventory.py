"""Which runs of a study the tracking store holds: to compare with what it should."""

import sqlite3
from collections.abc import Iterable
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pydantic import BaseModel, ConfigDict, Field, TypeAdapter

from mcp_server.tracking.projection import UID_TAG
from mcp_server.types import JsonObject

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities import Run

PAGE = 500


class StoredRun(BaseModel):
    """A run that a study's record became; `uid` is the record's key."""

    model_config = ConfigDict(frozen=True)

    uid: str
    run_id: str
    status: str
    deleted: bool
    params: dict[str, str] = Field(default_factory=dict)
    metrics: dict[str, float] = Field(default_factory=dict, description="The latest value of each.")


_RUNS = """
SELECT t.value, r.run_uuid, r.status, r.lifecycle_stage FROM runs r JOIN tags t ON t.run_uuid = r.run_uuid
WHERE t.key = ? AND (t.value = ? OR t.value LIKE ? || '/%')
"""
_PARAMS = """
SELECT run_uuid, key, value FROM params WHERE run_uuid IN
(SELECT run_uuid FROM tags WHERE key = ? AND (value = ? OR value LIKE ? || '/%'))
"""
_METRICS = """
SELECT run_uuid, key, value FROM latest_metrics WHERE run_uuid IN
(SELECT run_uuid FROM tags WHERE key = ? AND (value = ? OR value LIKE ? || '/%'))
"""


def runs_in_file(path: Path, study_id: str) -> list[StoredRun]:
    """The runs of a study in MLflow's SQLite file, deleted ones too; nothing is written and no mlflow imported.

    Raises:
        sqlite3.DatabaseError: If the file cannot be read as MLflow's.
    """
    mine = (UID_TAG, study_id, study_id)
    with closing(sqlite3.connect(f"{path.as_uri()}?mode=ro", uri=True, timeout=20.0)) as raw:
        raw.execute("BEGIN")  # one state of the file for all three
        found = raw.execute(_RUNS, mine).fetchall()
        params, metrics = (_by_run(raw.execute(query, mine)) for query in (_PARAMS, _METRICS))
    return [
        StoredRun(
            uid=uid,
            run_id=run_id,
            status=status,
            deleted=stage == "deleted",
            params=params.get(run_id, {}),
            metrics=metrics.get(run_id, {}),
        )
        for uid, run_id, status, stage in found
    ]


def _by_run(rows: Iterable[tuple[str, str, Any]]) -> dict[str, dict[str, Any]]:
    found: dict[str, dict[str, Any]] = {}
    for run_id, key, value in rows:
        found.setdefault(run_id, {})[key] = value
    return found


def runs_of_client(client: "MlflowClient", study_id: str) -> list[StoredRun]:
    """The runs of a study in whatever store the client is of, deleted ones too."""
    from mlflow.entities import ViewType

    experiments = client.search_experiments(view_type=ViewType.ALL, max_results=1_000)
    ids = [experiment.experiment_id for experiment in experiments]
    condition, token = f"tags.`{UID_TAG}` LIKE '{study_id}%'", None
    found: list[StoredRun] = []
    while ids:
        page = client.search_runs(ids, condition, ViewType.ALL, max_results=PAGE, page_token=token)
        found += map(_stored, page)
        token = page.token
        if not token:
            break
    return found


def _stored(run: "Run") -> StoredRun:
    return StoredRun(
        uid=run.data.tags[UID_TAG],
        run_id=run.info.run_id,
        status=run.info.status,
        deleted=run.info.lifecycle_stage == "deleted",
        params=run.data.params,
        metrics=run.data.metrics,
    )


def as_json(runs: list[StoredRun]) -> JsonObject:
    """The runs as they travel from the reader's process."""
    return {"runs": [run.model_dump(mode="json") for run in runs]}


def from_json(answer: JsonObject) -> list[StoredRun]:
    """The runs that `as_json` made the answer of."""
    return TypeAdapter(list[StoredRun]).validate_python(answer["runs"])
