"""The event log: what was ordered, by whom, and what happened, in order."""

import pytest

from mcp_server.errors import InvalidRequestError, StudyNotFoundError
from mcp_server.execution import Ended
from mcp_server.studies.ledger import Ledger
from mcp_server.studies.projection import Attempt
from mcp_server.workspace import Workspace
from tests.studies.running import run_inline
from tests.studies.test_runner import start, study_id


def kinds(workspace: Workspace, *, limit: int = 100) -> list[str]:
    return [event.kind for event in reversed(workspace.studies.read.events("study", limit).events)]


def test_a_life_of_a_study_is_on_record_in_order(workspace: Workspace) -> None:
    start(workspace, n_trials=2)
    run_inline(workspace)

    assert kinds(workspace) == ["created", "started", "trial_ended", "trial_ended", "limit_reached", "ended"]
    newest, *_, oldest = workspace.studies.read.events("study").events
    assert (oldest.actor, oldest.detail) == ("tester", {"n_trials": 2})
    assert (newest.actor, newest.detail) == ("runner", {"state": "finished", "reason": "trials"})
    full = workspace.studies.read.status("study", full=True)
    assert full.events is not None
    assert full.events[0] == newest
    assert workspace.studies.read.status("study").events is None


def test_a_lost_attempt_is_told_from_the_end_of_its_trial(workspace: Workspace) -> None:
    start(workspace, n_trials=1)
    ledger = Ledger(workspace.store, workspace.settings, study_id(workspace))
    ledger.begin()
    attempt = Attempt(0, 0, {"x": 1.0, "k": "a"}, "sampler", 1.0)
    ledger.trials.open(attempt, "log")
    ledger.trials.lose(attempt, Ended("j", "lost", 1.0, error="signal 9"))
    run_inline(workspace)

    found = [
        (e.kind, e.trial, e.attempt)
        for e in reversed(workspace.studies.read.events("study").events)
        if e.trial is not None
    ]
    assert found == [("attempt_lost", 0, 0), ("trial_ended", 0, 1)]


def test_events_are_read_page_by_page_while_new_ones_come(workspace: Workspace) -> None:
    start(workspace, n_trials=3)
    first = workspace.studies.read.events("study", 1)
    run_inline(workspace)

    pages, cursor = [], None
    while True:
        page = workspace.studies.read.events("study", 3, cursor)
        pages += page.events
        if (cursor := page.next_cursor) is None:
            break
    assert first.next_cursor is None
    assert [event.kind for event in reversed(pages)] == kinds(workspace)
    with pytest.raises(InvalidRequestError, match="is not a cursor"):
        workspace.studies.read.events("study", cursor="?")
    with pytest.raises(StudyNotFoundError):
        workspace.studies.read.events("nobody")
