"""Orders that meet a study at an awkward moment, and what is left behind when a study ends."""

import base64
from collections import Counter

import pytest
from sqlalchemy import select, update

from mcp_server.errors import ConflictError, InvalidRequestError
from mcp_server.execution import Ended
from mcp_server.store.schema import attempts, outbox, studies
from mcp_server.studies.ledger import Ledger
from mcp_server.studies.projection import Attempt
from mcp_server.studies.stopping import FAILURES_WITHOUT_SUCCESS
from mcp_server.studies.summary import StudyStatus
from mcp_server.workspace import Workspace
from tests.studies.running import run_inline
from tests.studies.test_runner import agree, start, study_id


def status(workspace: Workspace) -> StudyStatus:
    return workspace.studies.read.status("study")


def control(workspace: Workspace, action: str, by: str = "tester", **parameters: object) -> StudyStatus:
    return workspace.studies.control("study", action, by, **parameters)


def killed_runner(workspace: Workspace, in_flight: int) -> Ledger:
    """The study's ledger as a runner left it that was killed with some trials in flight."""
    ledger = Ledger(workspace.store, workspace.settings, study_id(workspace))
    ledger.begin()
    for number in range(in_flight):
        ledger.trials.open(Attempt(number, 0, {"x": float(number), "k": "a"}, "sampler", 1.0), "log")
    return ledger


def ends(workspace: Workspace) -> list[str]:
    """Why the study ended, each time, as tracking will hear it."""
    with workspace.store.read() as connection:
        rows = connection.scalars(select(outbox.c.payload).where(outbox.c.kind == "study_end").order_by(outbox.c.id))
        return [payload["stop_reason"] for payload in rows]


def test_a_total_that_is_raised_while_the_last_trial_ends_is_run(workspace: Workspace) -> None:
    start(workspace, "asks_for_more", n_trials=1, payload={"folder": str(workspace.settings.workspace)})
    run_inline(workspace)

    assert (status(workspace).state, status(workspace).n_complete) == ("finished", 2)


def test_an_end_that_was_decided_on_old_orders_is_not_written(workspace: Workspace) -> None:
    start(workspace, n_trials=3)
    ledger = killed_runner(workspace, 0)
    old = ledger.orders()
    control(workspace, "extend", n_trials=4)

    assert not ledger.end("finished", "trials", 1.0, ordered=old)
    assert (status(workspace).state, ends(workspace)) == ("running", [])
    assert ledger.end("finished", "trials", 1.0, ordered=ledger.orders())


@pytest.mark.parametrize(
    ("limits", "order", "state", "reason"),
    [({}, "stop", "stopped", "user"), ({"timeout_s": 100.0}, None, "stopped", "timeout"),
     ({"cost_budget_usd": 1.0}, None, "stopped", "budget")],
)  # fmt: skip
def test_trials_of_a_killed_runner_do_not_run_for_ever_in_a_study_that_ends(
    workspace: Workspace, limits: dict[str, float], order: str | None, state: str, reason: str
) -> None:
    start(workspace, n_trials=5, **limits)
    killed_runner(workspace, 2)
    with workspace.store.write() as connection:
        connection.execute(update(studies).values(elapsed_s=100.0))
        connection.execute(update(attempts).values(cost_usd=1.0))
    if order:
        control(workspace, order)
    run_inline(workspace)

    found = status(workspace)
    assert (found.state, found.stop_reason, found.n_running, found.failures) == (state, reason, 0, {"cancelled": 2})
    assert {job.state for job in workspace.studies.read.jobs("study")} == {"lost"}
    agree(workspace)


def test_a_pause_keeps_the_trials_that_have_to_run_again(workspace: Workspace) -> None:
    start(workspace, n_trials=1)
    killed_runner(workspace, 1)
    control(workspace, "pause")
    run_inline(workspace)
    assert status(workspace).state == "paused"

    control(workspace, "resume")
    run_inline(workspace)

    assert (status(workspace).state, status(workspace).n_complete) == ("finished", 1)


def test_trials_that_a_stop_cancelled_are_no_reason_to_give_up(workspace: Workspace) -> None:
    start(workspace, n_trials=FAILURES_WITHOUT_SUCCESS + 2)
    killed_runner(workspace, FAILURES_WITHOUT_SUCCESS)
    control(workspace, "stop")
    run_inline(workspace)

    control(workspace, "resume")
    run_inline(workspace)

    assert (status(workspace).state, status(workspace).n_complete) == ("finished", 2)


def test_a_failed_study_that_is_resumed_tries_again(workspace: Workspace) -> None:
    start(workspace, "not_a_number", n_trials=50)
    run_inline(workspace)

    control(workspace, "resume")
    run_inline(workspace)

    assert (status(workspace).state, status(workspace).n_failed) == ("failed", 2 * FAILURES_WITHOUT_SUCCESS)


def test_a_short_study_of_which_nothing_came_has_failed(workspace: Workspace) -> None:
    start(workspace, "not_a_number", n_trials=2)
    run_inline(workspace)

    assert (status(workspace).state, status(workspace).stop_reason) == ("failed", "all_failed")
    assert "nan" in (status(workspace).error or "").lower()


def test_a_failed_study_without_trials_to_run_stays_failed(workspace: Workspace) -> None:
    start(workspace, "not_a_number", n_trials=2)
    run_inline(workspace)
    control(workspace, "resume")
    run_inline(workspace)

    assert (status(workspace).state, status(workspace).stop_reason) == ("failed", "all_failed")


def test_running_time_is_on_record_while_a_long_trial_runs(
    workspace: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("mcp_server.studies.runner.SAVE_ELAPSED_S", 0.0)
    start(workspace, "sees_elapsed", n_trials=1, payload={"folder": str(workspace.settings.workspace)})
    run_inline(workspace)

    assert (status(workspace).best_value or 0.0) > 0.0


def test_a_poisoned_trial_after_a_lost_one_is_told_apart(workspace: Workspace) -> None:
    start(workspace, n_trials=3)
    ledger = killed_runner(workspace, 2)
    for attempt in (0, 1):
        poisoned = Attempt(1, attempt, {"x": 1.0, "k": "a"}, "sampler", 1.0)
        if attempt:
            ledger.trials.open(poisoned, "log")
        ledger.trials.lose(poisoned, Ended("j", "lost", 2.0, error="killed"))
    run_inline(workspace)

    assert [t.state for t in workspace.studies.read.trials("study")] == ["complete", "failed", "complete"]
    lost = [job for job in workspace.studies.read.jobs("study") if job.trial == 1]
    assert [(job.state, job.seconds) for job in lost] == [("lost", 2.0)] * 2
    agree(workspace)


def test_a_paused_study_that_is_stopped_ends_for_tracking_too(workspace: Workspace) -> None:
    start(workspace, n_trials=3)
    control(workspace, "pause")
    run_inline(workspace)

    control(workspace, "stop")
    run_inline(workspace)

    assert (status(workspace).state, status(workspace).stop_reason) == ("stopped", "user")
    assert ends(workspace) == ["user"]


def test_tracking_hears_of_a_second_end_without_a_new_trial(workspace: Workspace) -> None:
    start(workspace, n_trials=2)
    run_inline(workspace)
    control(workspace, "extend", n_trials=4)
    control(workspace, "stop")
    run_inline(workspace)

    assert ends(workspace) == ["trials", "user"]


def test_a_runner_that_fails_leaves_no_trial_running(workspace: Workspace) -> None:
    start(workspace, n_trials=5)
    killed_runner(workspace, 2).fail("a bug")

    assert (status(workspace).state, status(workspace).n_running) == ("failed", 0)
    assert Counter(job.state for job in workspace.studies.read.jobs("study")) == {"cancelled": 2}


def test_a_study_out_of_time_goes_on_with_more_time_only(workspace: Workspace) -> None:
    start(workspace, n_trials=3, timeout_s=100.0)
    with workspace.store.write() as connection:
        connection.execute(update(studies).values(elapsed_s=100.0))
    run_inline(workspace)
    assert "timeout_s" in (status(workspace).next_step or "")

    with pytest.raises(ConflictError, match=r"used its 100 s\. .*larger timeout_s"):
        control(workspace, "resume")
    with pytest.raises(InvalidRequestError):
        control(workspace, "extend", timeout_s=50.0)
    control(workspace, "extend", timeout_s=1000.0)
    run_inline(workspace)

    assert (status(workspace).state, status(workspace).n_complete) == ("finished", 3)


def test_limits_that_a_resume_changes_are_in_force(workspace: Workspace) -> None:
    start(workspace, n_trials=1, trial_timeout_s=5.0)
    run_inline(workspace)

    start(workspace, n_trials=3, trial_timeout_s=7.0)

    config = workspace.studies.read.status("study", full=True).config or {}
    assert (config["trial_timeout_s"], config["n_trials"]) == (7.0, 3)
    with pytest.raises(ConflictError, match="trial_timeout_s cannot change while study 'study' is queued"):
        start(workspace, n_trials=4, trial_timeout_s=9.0)


def test_a_limit_that_an_action_would_ignore_is_refused(workspace: Workspace) -> None:
    start(workspace)

    with pytest.raises(InvalidRequestError, match="n_trials does nothing with pause"):
        control(workspace, "pause", n_trials=99)


def test_an_offset_that_no_database_takes_is_no_cursor(workspace: Workspace) -> None:
    cursor = base64.urlsafe_b64encode(b"o" + b"9" * 30).decode()

    with pytest.raises(InvalidRequestError, match="is not a cursor"):
        workspace.studies.read.page(cursor=cursor)
