"""The state machines of study, trial and attempt, and who may move them."""

import ast
from collections.abc import Iterator
from pathlib import Path
from typing import get_args

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sqlalchemy import select, update

import mcp_server.studies
from mcp_server.errors import StudyNotFoundError
from mcp_server.execution import Ended
from mcp_server.store.schema import attempts, studies, trials
from mcp_server.studies.ledger import Ledger
from mcp_server.studies.projection import Attempt
from mcp_server.studies.states import (
    ATTEMPT,
    STUDY,
    TRIAL,
    IllegalTransitionError,
    end_attempt,
    end_trial,
    move_study,
    requeue,
)
from mcp_server.types import ENDED_STATES, AttemptState, StudyState, TrialState
from mcp_server.workspace import Workspace
from tests.studies.running import callable_spec

PACKAGE = Path(mcp_server.studies.__file__).parent
STUDY_STATES: tuple[StudyState, ...] = get_args(StudyState)
SHARED = settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=25, deadline=None)


def started(workspace: Workspace) -> str:
    workspace.studies.start(callable_spec(), "tester")
    with workspace.store.read() as connection:
        return connection.execute(select(studies.c.id)).scalar_one()


def state_of(workspace: Workspace) -> str:
    with workspace.store.read() as connection:
        return connection.execute(select(studies.c.state)).scalar_one()


def put(workspace: Workspace, state: str) -> None:
    with workspace.store.write() as connection:
        connection.execute(update(studies).values(state=state))


def open_trial(workspace: Workspace, study_id: str) -> Ledger:
    ledger = Ledger(workspace.store, workspace.settings, study_id)
    ledger.begin()
    ledger.trials.open(Attempt(0, 0, {"x": 1.0, "k": "a"}, "sampler", 1.0), "log")
    return ledger


def test_every_state_has_its_place_and_can_be_reached_from_the_first_ones() -> None:
    assert set(STUDY) == set(STUDY_STATES)
    assert set(TRIAL) == set(get_args(TrialState))
    assert set(ATTEMPT) == set(get_args(AttemptState))
    reached, fresh = {"queued"}, {"queued"}
    while fresh:
        fresh = {after for state in fresh for after in STUDY[state]} - reached
        reached |= fresh
    assert reached == set(STUDY_STATES)


def test_what_has_ended_goes_on_only_when_it_is_asked_for_again() -> None:
    assert all(STUDY[state] == {"queued"} for state in STUDY_STATES if state in ENDED_STATES)
    assert all(not after for state, after in TRIAL.items() if state != "running")
    assert all(not after for state, after in ATTEMPT.items() if state != "running")
    assert ATTEMPT["running"] == set(get_args(AttemptState)) - {"running"}


@SHARED
@given(path=st.lists(st.sampled_from(STUDY_STATES), max_size=12))
def test_a_study_takes_every_legal_path_and_no_other(workspace: Workspace, path: list[StudyState]) -> None:
    with workspace.store.read() as connection:
        found = connection.scalar(select(studies.c.id))
    study_id = found or started(workspace)
    put(workspace, "queued")
    expected: StudyState = "queued"
    for to in path:
        if to in STUDY[expected]:
            with workspace.store.write() as connection:
                move_study(connection, study_id, to, stop_reason=to)
            expected = to
        else:
            with (
                pytest.raises(IllegalTransitionError, match=f"{expected} cannot become {to}"),
                workspace.store.write() as connection,
            ):
                move_study(connection, study_id, to, stop_reason="wrong")
        assert state_of(workspace) == expected
    with workspace.store.read() as connection:
        assert connection.scalar(select(studies.c.stop_reason)) != "wrong"


def test_a_trial_that_has_ended_cannot_end_again(workspace: Workspace) -> None:
    ledger = open_trial(workspace, started(workspace))
    attempt = Attempt(0, 0, {"x": 1.0, "k": "a"}, "sampler", 1.0)
    ledger.trials.close(attempt, Ended("j", "failed", 1.0, error="no"), 1.0)

    with pytest.raises(IllegalTransitionError, match="failed cannot become failed"):
        ledger.trials.close(attempt, Ended("j", "failed", 1.0, error="again"), 1.0)
    with pytest.raises(IllegalTransitionError, match="failed cannot become complete"), workspace.store.write() as c:
        end_trial(c, ledger.study_id, 0, "complete")

    with workspace.store.read() as connection:
        assert connection.execute(select(trials.c.error)).scalar_one() == "no"


def test_an_attempt_ends_once_and_a_lost_one_keeps_what_it_took(workspace: Workspace) -> None:
    ledger = open_trial(workspace, started(workspace))
    with workspace.store.write() as connection:
        end_attempt(connection, ledger.study_id, 0, 0, "lost", seconds=2.0)
        end_attempt(connection, ledger.study_id, 0, 0, "failed", seconds=9.0)  # the trial ends, this attempt had
    with workspace.store.read() as connection:
        assert connection.execute(select(attempts.c.state, attempts.c.seconds)).one() == ("lost", 2.0)

    with workspace.store.write() as connection:
        connection.execute(update(attempts).values(state="completed"))
    with (
        pytest.raises(IllegalTransitionError, match="completed cannot become oom"),
        workspace.store.write() as connection,
    ):
        end_attempt(connection, ledger.study_id, 0, 0, "oom")
    with pytest.raises(IllegalTransitionError, match="None cannot become lost"), workspace.store.write() as connection:
        end_attempt(connection, ledger.study_id, 7, 0, "lost")


def test_an_order_cannot_take_a_study_from_its_runner_or_bring_one_back(workspace: Workspace) -> None:
    study_id = started(workspace)
    put(workspace, "running")

    with (
        pytest.raises(IllegalTransitionError, match="running cannot become queued"),
        workspace.store.write() as connection,
    ):
        requeue(connection, study_id)
    with pytest.raises(StudyNotFoundError, match="deleted"), workspace.store.write() as connection:
        requeue(connection, "nobody")


def writes(tree: ast.AST) -> Iterator[tuple[str, str]]:
    """Statement (`insert` or `update`) and column of every `....values(column=...)` in some code."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr == "values":
            verbs = [n.func.id for n in ast.walk(node.func) if isinstance(n, ast.Call) and isinstance(n.func, ast.Name)]
            yield from ((verb, keyword.arg or "**") for verb in verbs for keyword in node.keywords)


def keywords(tree: ast.AST) -> set[str | None]:
    """The names of all keyword arguments in some code."""
    return {node.arg for node in ast.walk(tree) if isinstance(node, ast.keyword)}


def sources() -> Iterator[tuple[str, ast.Module]]:
    return ((file.stem, ast.parse(file.read_text(encoding="utf-8"))) for file in sorted(PACKAGE.glob("*.py")))


def test_states_are_written_in_one_module_and_orders_in_another() -> None:
    by_column: dict[tuple[str, str], set[str]] = {}
    for name, tree in sources():
        for key in writes(tree):
            by_column.setdefault(key, set()).add(name)

    assert by_column["update", "state"] == {"states"}
    assert {name for name, tree in sources() if "desired" in keywords(tree)} == {"approvals", "control"}


def test_only_the_runners_side_says_what_a_study_does() -> None:
    users = {
        name: {alias.name for node in ast.walk(tree) if isinstance(node, ast.ImportFrom) for alias in node.names}
        for name, tree in sources()
    }
    movers = {name for name, imported in users.items() if "move_study" in imported}
    callers = {name for name, imported in users.items() if "requeue" in imported}

    assert movers == {"ledger"}
    assert callers == {"approvals", "control"}
