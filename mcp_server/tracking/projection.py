"""How a record becomes a run: names, tags, metrics and status. Pure functions, no store."""

import math
from collections.abc import Iterable

from mcp_server.tracking._base import Point, RunContent, RunStatus
from mcp_server.tracking.names import PARAM_LIMIT, TAG_LIMIT, fitted, legal_key, legal_keys
from mcp_server.tracking.records import StudyEndRecord, StudyRecord, TrialRecord
from mcp_server.types import JsonObject

UID_TAG = "mcp.uid"
STUDY_TAG = "mcp.study"
KIND_TAG = "mcp.kind"
STATE_TAG = "mcp.state"
TRIAL_TAG = "trial_number"
PARENT_TAG = "mlflow.parentRunId"
NONFINITE_TAG = "mcp.nonfinite."
STEP_METRIC = "val_metric"

_TRIAL_STATUS: dict[str, RunStatus] = {"complete": "FINISHED", "pruned": "KILLED", "failed": "FAILED"}
_STUDY_STATUS: dict[str, RunStatus] = {"finished": "FINISHED", "stopped": "KILLED", "failed": "FAILED"}


def study_run(record: StudyRecord) -> RunContent:
    """The parent run of a study."""
    tags = {**record.tags, UID_TAG: record.key, STUDY_TAG: record.study_name, KIND_TAG: "study", "automl": "true"}
    params, renamed = legal_keys(record.params)
    return RunContent(
        uid=record.key,
        experiment=record.experiment,
        name=record.study_name,
        started_ms=_ms(record.started_at),
        tags=_tags({**tags, **renamed}),
        params={key: fitted(value, PARAM_LIMIT) for key, value in params.items()},
        dataset=record.dataset,
        config=record.to_json(),
    )


def trial_run(record: TrialRecord, *, experiment: str, parent_run_id: str | None) -> RunContent:
    """The child run of a trial."""
    points, nonfinite = _finite(_trial_points(record))
    params, renamed = legal_keys(record.params)
    tags = {**record.tags, **_trial_tags(record), **renamed, **_renamed_metrics(record), **nonfinite}
    if parent_run_id is not None:
        tags[PARENT_TAG] = parent_run_id
    return RunContent(
        uid=record.key,
        experiment=experiment,
        name=f"trial_{record.number}",
        started_ms=_ms(record.started_at),
        status=_TRIAL_STATUS[record.state],
        ended_ms=_ms(record.ended_at),
        tags=_tags(tags),
        params={key: fitted(value, PARAM_LIMIT) for key, value in params.items()},
        points=points,
        config=_config(record),
    )


def parent_points(record: TrialRecord) -> list[Point]:
    """What a trial adds to its study's run: the objective and the best so far, by trial number."""
    values = {"objective": record.value, "best_so_far": record.best_so_far}
    at_ms = _ms(record.ended_at)
    points = [Point(key, value, at_ms, record.number) for key, value in values.items() if value is not None]
    return _finite(points)[0]


def study_end(record: StudyEndRecord) -> tuple[RunStatus, list[Point], dict[str, str]]:
    """How a study's run ends: its status, its summary metrics, its tags."""
    metrics, renamed = legal_keys(record.metrics)
    at_ms = _ms(record.ended_at)
    points, nonfinite = _finite(Point(key, value, at_ms, record.sequence) for key, value in metrics.items())
    tags = {STATE_TAG: record.state, **renamed, **nonfinite}
    if record.stop_reason is not None:
        tags["mcp.stop_reason"] = record.stop_reason
    if record.best_trial is not None:
        tags["mcp.best_trial"] = str(record.best_trial)
    return _STUDY_STATUS[record.state], points, _tags(tags)


def _trial_tags(record: TrialRecord) -> dict[str, str]:
    tags = {
        UID_TAG: record.key,
        STUDY_TAG: record.study_name,
        KIND_TAG: "trial",
        STATE_TAG: record.state,
        TRIAL_TAG: str(record.number),
        "optuna_trial": str(record.number),
        "optuna_study": record.study_name,
        "mcp.metric": record.metric,
        "mcp.source": record.source,
    }
    if record.error is not None:
        tags["mcp.error"] = record.error
    if record.explanation is not None:
        tags["mcp.explanation"] = record.explanation
    return tags


def _trial_points(record: TrialRecord) -> list[Point]:
    at_ms = _ms(record.ended_at)
    scalars: dict[str, float | None] = {
        **record.metrics,
        f"{record.metric}_std": record.std,
        record.metric: record.value,
        "final_metric": record.value,
        "runtime_s": record.ended_at - record.started_at,
        "cost_usd": record.cost_usd,
    }
    points = [Point(legal_key(key), value, at_ms) for key, value in scalars.items() if value is not None]
    for name in (STEP_METRIC, legal_key(f"{record.metric}_{record.step_unit}")):
        points += [Point(name, value, _ms(at), step) for step, value, at in record.reports]
    return points


def _renamed_metrics(record: TrialRecord) -> dict[str, str]:
    return legal_keys({**record.metrics, record.metric: 0.0})[1]


def _finite(points: Iterable[Point]) -> tuple[list[Point], dict[str, str]]:
    # SQL stores turn infinity into 1.8e308 without an error, so it is told by a tag instead.
    kept: list[Point] = []
    dropped: dict[str, str] = {}
    for point in points:
        if math.isfinite(point.value):
            kept.append(point)
        else:
            dropped[f"{NONFINITE_TAG}{point.key}"] = str(point.value)
    return kept, dropped


def _tags(tags: dict[str, str]) -> dict[str, str]:
    return {legal_key(key): fitted(value, TAG_LIMIT) for key, value in tags.items()}


def _config(record: TrialRecord) -> JsonObject:
    return record.to_json("study_name", "number", "state", "params", "metric", "value", "source", "error", "config")


def _ms(seconds: float) -> int:
    return round(seconds * 1_000)
