"""What has to hold between our rows and the stores that follow them: invariants 4 and 5 for Optuna and MLflow."""

from collections import Counter
from collections.abc import Iterator, Sequence
from typing import Any

from sqlalchemy import Row

from mcp_server.health.evidence import Evidence, StudyEvidence
from mcp_server.health.mirrored import MirroredTrial
from mcp_server.health.trials import read_record, trial_records, violation
from mcp_server.health.violation import Violation
from mcp_server.tracking.inventory import StoredRun
from mcp_server.tracking.projection import trial_run
from mcp_server.tracking.records import TrialRecord, study_key
from mcp_server.types import ENDED_STATES, Params

VALUE_METRIC = "final_metric"


def mirror_agrees(study: StudyEvidence, evidence: Evidence) -> Iterator[Violation]:
    """I4 and I5: `optuna.db` has the same trials, when no runner is writing it or will."""
    goes_on = not study.at_rest or study.row.state in {"queued", "running"}
    if goes_on or not evidence.mirror_exists or not study.trials:
        return
    if study.mirrored is None:
        yield violation(study, "I4", "optuna.db does not have it", remedy="mirror")
        return
    theirs = {trial.number: trial for trial in study.mirrored}
    for trial in study.trials:
        found = theirs.pop(trial.number, None)
        if text := _difference(trial, found):
            stuck = found is not None and found.state == "running" and trial.state != "running"
            yield violation(study, "I5" if stuck else "I4", f"optuna.db {text}", trial.number, remedy="mirror")
    for number in theirs:
        yield violation(study, "I4", "optuna.db has it, and it was never run", number, remedy="mirror")


def _difference(trial: Row[Any], found: MirroredTrial | None) -> str | None:
    if found is None:
        return "does not have it"
    if found.state != trial.state:
        return f"has it as {found.state}, and it is {trial.state}"
    if trial.state == "complete" and found.value != trial.value:
        return f"has the value {found.value!r}, and it is {trial.value!r}"
    wrong = [name for name, value in found.params.items() if not _same(trial.params.get(name), value)]
    return f"has another {wrong[0]}" if wrong else None


def _same(ours: object, theirs: object) -> bool:
    return ours == theirs and isinstance(ours, bool) == isinstance(theirs, bool)


def records_agree(study: StudyEvidence) -> Iterator[Violation]:
    """I4: every ended trial has its record for MLflow, which says what the trial says."""
    readable = trial_records(study)
    for trial in study.trials:
        key = f"{study.row.id}/{trial.number}"
        row, record = study.records.get(key), readable.get(key)
        if trial.state == "running":
            continue
        if row is None:
            yield violation(study, "I4", "MLflow is not told of it", trial.number, remedy="owe", subject=key)
        elif record is None:
            yield violation(
                study, "I4", "its record for MLflow cannot be read", trial.number, remedy="owe", subject=key
            )
        elif (record.state, record.value) != (trial.state, trial.value) or not _holds(record, trial.params):
            yield violation(
                study, "I4", "its record for MLflow says something else", trial.number, remedy="owe", subject=key
            )
        elif row.state == "refused":
            yield violation(study, "I4", f"MLflow refused it: {row.error}", trial.number, remedy="deliver", subject=key)
    if study.trials and study_key(study.row.id) not in study.records:
        yield violation(study, "I4", "MLflow is not told of it", remedy="owe", subject=study_key(study.row.id))


def _holds(record: TrialRecord, params: Params) -> bool:
    return all(name in record.params and _same(record.params[name], value) for name, value in params.items())


def runs_agree(study: StudyEvidence, evidence: Evidence, *, settled: bool) -> Iterator[Violation]:
    """I4 and I5: MLflow has one run for each record that it was given, and it says the same."""
    if study.runs is None:
        return
    by_uid: dict[str, list[StoredRun]] = {}
    for run in study.runs:
        by_uid.setdefault(run.uid, []).append(run)
    for key, record in trial_records(study).items():
        if key in evidence.delivered:
            yield from _run_of(study, key, record, by_uid.get(key, []))
        elif settled and study.records[key].state != "refused":
            yield violation(study, "I4", "MLflow has not got it yet", record.number)
    yield from _parent(study, evidence, by_uid.get(study_key(study.row.id), []))


def _run_of(study: StudyEvidence, key: str, record: TrialRecord, runs: Sequence[StoredRun]) -> Iterator[Violation]:
    if not runs:
        yield violation(study, "I4", "its MLflow run is gone", record.number, remedy="deliver", subject=key)
        return
    alive = [run for run in runs if not run.deleted]  # somebody may have deleted it, which is not for us to undo
    if len(alive) > 1:
        yield violation(study, "I4", f"MLflow has {len(alive)} runs of it", record.number)
    content = trial_run(record, experiment="", parent_run_id=None)
    for run in alive:
        if run.status == "RUNNING":
            yield violation(
                study, "I5", f"MLflow run {run.run_id} is RUNNING", record.number, remedy="deliver", subject=key
            )
        elif run.status != content.status:
            text = f"MLflow run {run.run_id} is {run.status}, and should be {content.status}"
            yield violation(study, "I4", text, record.number, remedy="deliver", subject=key)
        elif run.params != content.params:
            yield violation(study, "I4", f"MLflow run {run.run_id} has other parameters", record.number)
        elif record.state == "complete" and run.metrics.get(VALUE_METRIC) != record.value:
            yield violation(study, "I4", f"MLflow run {run.run_id} has another value", record.number)


def _parent(study: StudyEvidence, evidence: Evidence, runs: Sequence[StoredRun]) -> Iterator[Violation]:
    key = study_key(study.row.id)
    alive = [run for run in runs if not run.deleted]
    if key in evidence.delivered and not runs:
        yield violation(study, "I4", "its MLflow run is gone", remedy="deliver", subject=key)
    if len(alive) > 1:
        yield violation(study, "I4", f"MLflow has {len(alive)} runs of it")
    ends = [row for row in study.records.values() if row.kind == "study_end"]
    if study.at_rest and study.row.state in ENDED_STATES and ends:
        last = max(ends, key=lambda row: row.id)
        for run in alive:
            if run.status == "RUNNING" and last.key in evidence.delivered and read_record(last) is not None:
                text = f"MLflow run {run.run_id} is RUNNING"
                yield violation(study, "I5", text, remedy="deliver", subject=last.key)


def twice(study: StudyEvidence) -> Iterator[Violation]:
    """I2: no number is twice in `optuna.db`."""
    for number, times in Counter(trial.number for trial in study.mirrored or []).items():
        if study.at_rest and times > 1:
            yield violation(study, "I2", f"optuna.db has it {times} times", number, remedy="mirror")
