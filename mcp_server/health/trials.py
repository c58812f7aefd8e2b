"""What has to hold among the rows of one study: invariants 1, 2, 3, 9 and 11."""

from collections import Counter
from collections.abc import Iterator, Mapping
from math import fsum
from types import MappingProxyType
from typing import Any

from pydantic import ValidationError
from sqlalchemy import Row

from mcp_server.health.evidence import Evidence, StudyEvidence
from mcp_server.health.violation import Invariant, Remedy, Violation
from mcp_server.tracking.records import StudyEndRecord, TrialRecord, parse_record
from mcp_server.types import ENDED_STATES

_SUCCESS: Mapping[str, str] = MappingProxyType({"complete": "completed", "pruned": "pruned"})
_ENDED_TRIALS = frozenset({"complete", "pruned", "failed"})


def violation(
    study: StudyEvidence,
    invariant: Invariant,
    text: str,
    number: int | None = None,
    *,
    remedy: Remedy | None = None,
    subject: str | None = None,
) -> Violation:
    """A violation in this study."""
    return Violation(invariant, text, study.row.id, study.row.name, number, remedy, subject)


def acknowledged(study: StudyEvidence) -> Iterator[Violation]:
    """I1: what the event log and the outbox say was completed is in the trials, with that value."""
    stored = {trial.number: trial for trial in study.trials}
    told = {event.number: event.detail["value"] for event in study.ends if event.detail["state"] == "complete"}
    told |= {r.number: r.value for r in trial_records(study).values() if r.state == "complete"}
    for number, value in sorted(told.items()):
        trial = stored.get(number)
        if trial is None or trial.state != "complete":
            found = "gone" if trial is None else trial.state
            yield violation(study, "I1", f"it was recorded as complete with {value:g}, and is {found}", number)
        elif trial.value != value:
            yield violation(study, "I1", f"it was recorded with {value!r}, and has {trial.value!r}", number)
    numbers = [trial.number for trial in study.trials]
    for number in sorted(set(range(max(numbers, default=-1))) - set(numbers) - told.keys()):
        yield violation(study, "I1", "later trials are there, and this one is gone", number)


def vanished(evidence: Evidence) -> Iterator[Violation]:
    """I1: no study is gone that was not deleted."""
    deleted = {record.study_id for record in evidence.strays if record.kind == "study_deletion"}
    for study_id in sorted({record.study_id for record in evidence.strays} - deleted):
        yield Violation("I1", f"records of study {study_id} wait for MLflow, and the study is gone", study_id)


def ended_once(study: StudyEvidence) -> Iterator[Violation]:
    """I2: an ended trial has one final attempt that says the same, an open one has none."""
    for trial in study.trials:
        finals = [a.state for a in study.attempts.get(trial.number, []) if a.state not in {"running", "lost"}]
        if trial.state in _SUCCESS:
            fits = finals == [_SUCCESS[trial.state]]
        elif trial.state == "failed":
            fits = len(finals) <= 1 and not set(finals) & set(_SUCCESS.values())
        else:
            fits = not finals
        if not fits:
            attempts = ", ".join(finals) or "none"
            yield violation(study, "I2", f"it is {trial.state}, and its final attempts are: {attempts}", trial.number)
    for number, times in Counter(event.number for event in study.ends).items():
        if times > 1:
            yield violation(study, "I2", f"it ended {times} times", number)


def as_many_as_asked(study: StudyEvidence) -> Iterator[Violation]:
    """I3: a study that ended with its trials has exactly its total."""
    if study.row.state != "finished" or study.row.stop_reason != "trials":
        return
    ended = sum(trial.state in _ENDED_TRIALS for trial in study.trials)
    if ended != study.row.n_trials or len(study.trials) != study.row.n_trials:
        yield violation(study, "I3", f"it finished its {study.row.n_trials} trials, and {ended} have ended")


def best_is_best(study: StudyEvidence) -> Iterator[Violation]:
    """I9: what answers and the study's last record report as the best is the best of the trials."""
    values = [trial.value for trial in study.trials if trial.state == "complete"]
    best = (max if study.row.direction == "maximize" else min)(values, default=None)
    if study.best_value != best:
        yield violation(study, "I9", f"answers report {study.best_value!r} as the best, and the best is {best!r}")
    ends = [r for r in map(read_record, study.records.values()) if isinstance(r, StudyEndRecord)]
    if study.at_rest and study.row.state in ENDED_STATES and ends:
        told = max(ends, key=lambda record: record.sequence).metrics.get(f"best_{study.row.metric}")
        if told != best:
            yield violation(study, "I9", f"MLflow is told that {told!r} is the best, and the best is {best!r}")


def within_budget(study: StudyEvidence, slots: int) -> Iterator[Violation]:
    """I11: no budget is exceeded by more than one trial for each slot."""
    if len(study.trials) > study.row.n_trials:
        yield violation(study, "I11", f"it has {len(study.trials)} trials, and {study.row.n_trials} were allowed")
    tried = [attempt for attempts in study.attempts.values() for attempt in attempts]
    longest = max((attempt.seconds for attempt in tried), default=0.0)
    limit = study.row.timeout_s
    if limit is not None and study.row.elapsed_s > limit + max(longest, 1.0) + _CLOSING_S:
        yield violation(study, "I11", f"it ran for {study.row.elapsed_s:.1f} s, and {limit:g} s were allowed")
    budget = study.row.spec.get("spec", {}).get("cost_budget_usd")
    costs = [attempt.cost_usd for attempt in tried]
    slots = study.row.parallel or slots
    if budget is not None and fsum(costs) > budget + slots * max(costs, default=0.0):
        yield violation(study, "I11", f"it cost ${fsum(costs):.4f}, and ${budget:g} were allowed")


_CLOSING_S = 10.0  # to kill what runs on a machine that is busy


def trial_records(study: StudyEvidence) -> dict[str, TrialRecord]:
    """What MLflow is owed about trials, by key."""
    read = {key: read_record(row) for key, row in study.records.items() if row.kind == "trial"}
    return {key: record for key, record in read.items() if isinstance(record, TrialRecord)}


def read_record(row: Row[Any]) -> object:
    """The record in an outbox row, None when it cannot be read."""
    try:
        return parse_record(row.payload)
    except ValidationError:
        return None
