"""Stop rules at run time: a study ends at the very trial that its rule names, and says which rule it was."""

from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from pydantic import ValidationError
from sqlalchemy import select

from mcp_server.store.schema import attempts
from mcp_server.studies.limits import Limits
from mcp_server.studies.spec import StudySpec
from mcp_server.studies.summary import StudyStatus
from mcp_server.workspace import Workspace
from tests.studies.running import callable_spec, run_inline

OBJECTIVES = str(Path(__file__).parent)


def start(
    workspace: Workspace, limits: dict[str, object], *values: float, name: str = "study", **changed: object
) -> None:
    fields = {
        "objective": "study_objectives:given",
        "python_path": [OBJECTIVES],
        "search_space": {"v": list(values)},
        "sampler": "grid",
        "direction": "maximize",
        "n_trials": len(values),
        "pruner": "none",
        "limits": limits,
        **changed,
    }
    workspace.studies.start(callable_spec(name, **fields), "tester")


def ended(workspace: Workspace, limits: dict[str, object], *values: float, **changed: object) -> StudyStatus:
    start(workspace, limits, *values, **changed)
    run_inline(workspace)
    return workspace.studies.read.status("study")


LEVEL = (1.0, 2.0, 2.05, 2.01, 1.5, 3.0, 1.25)


@pytest.mark.parametrize(
    ("limits", "values", "reason", "n_trials"),
    [
        ({"target": 2.0}, LEVEL, "target", 2),
        ({"patience": 2, "min_delta": 0.1}, LEVEL, "patience", 4),
        ({"patience": 2, "min_delta": 0.1, "min_trials": 5}, LEVEL, "patience", 5),
        ({"patience": 4, "min_delta": 0.1}, LEVEL, "grid_exhausted", 7),  # the sixth is a gain
        ({"plateau": 3, "min_delta": 0.06}, (1.0, 5.0, 2.0, 5.05, 5.01, 4.0), "plateau", 5),
        ({"failures": 2}, (1.0, -1.0, 2.0, -2.0, 3.0), "failures", 4),
        ({"consecutive_failures": 2}, (-1.0, 1.0, -2.0, -3.0, 3.0), "consecutive_failures", 4),
        ({"consecutive_failures": 2}, (-1.0, 1.0, -2.0, 2.0), "grid_exhausted", 4),
    ],
)
def test_a_study_ends_at_the_trial_that_its_rule_names(
    workspace: Workspace, limits: dict[str, object], values: tuple[float, ...], reason: str, n_trials: int
) -> None:
    status = ended(workspace, limits, *values)

    assert (status.stop_reason, len(workspace.studies.read.trials("study"))) == (reason, n_trials)
    assert status.n_running == 0
    assert status.state == ("finished" if reason == "grid_exhausted" else "stopped")


def test_a_minimised_study_reaches_its_target_from_above(workspace: Workspace) -> None:
    status = ended(workspace, {"target": 2.0}, 4.0, 3.0, 2.0, 1.0, direction="minimize")

    assert (status.stop_reason, status.n_complete, status.best_value) == ("target", 3, 2.0)


def test_a_rule_counts_the_trials_of_the_runner_before(workspace: Workspace) -> None:
    values = (2.0, 1.0, 1.5, 1.25, 3.0)
    start(workspace, {"patience": 3}, *values, n_trials=2)
    run_inline(workspace)
    workspace.studies.control("study", "extend", "tester", n_trials=len(values))
    run_inline(workspace)

    status = workspace.studies.read.status("study")
    assert (status.stop_reason, status.n_complete) == ("patience", 4)


def test_processor_seconds_of_all_attempts_stop_the_next_trial(workspace: Workspace) -> None:
    start(
        workspace, {"cpu_seconds": 0.25}, objective="mcp_server.testing.objectives:busy", n_trials=50,
        payload={"seconds": 0.1}, search_space={"v": [float(i) for i in range(50)]},
    )  # fmt: skip
    run_inline(workspace)

    assert workspace.studies.read.status("study").stop_reason == "cpu_seconds"
    with workspace.store.read() as connection:
        used = list(connection.scalars(select(attempts.c.cpu_seconds).order_by(attempts.c.number)))
    assert sum(used[:-1]) < 0.25 <= sum(used)


def test_nothing_starts_after_the_deadline(workspace: Workspace) -> None:
    past = datetime.now(tz=UTC) - timedelta(seconds=1)
    status = ended(workspace, {"deadline": past.isoformat()}, 1.0, 2.0)

    assert (status.state, status.stop_reason, workspace.studies.read.trials("study")) == ("stopped", "deadline", [])


def test_a_deadline_without_a_time_zone_is_refused() -> None:
    with pytest.raises(ValidationError, match="timezone"):
        StudySpec.model_validate({"study_name": "s", "limits": {"deadline": "2026-12-01T10:00:00"}})


@pytest.mark.parametrize(("at_limit", "first"), [("prune", "pruned"), ("drain", "complete"), ("kill", "failed")])
def test_what_runs_at_the_limit_is_cut_at_its_next_report_or_ends_or_is_killed(
    workspace: Workspace, tmp_path: Path, at_limit: str, first: str
) -> None:
    start(
        workspace, {"failures": 1, "at_limit": at_limit}, 1.0, -1.0, objective="study_objectives:waits_for_failure",
        parallel=2, payload={"folder": str(tmp_path)},
    )  # fmt: skip
    run_inline(workspace, slots=2)

    trials = workspace.studies.read.trials("study")
    assert [trial.state for trial in trials] == [first, "failed"]
    if first == "pruned":
        assert trials[0].explanation == "cut at step 1: the study reached its limit (failures)"
    assert workspace.studies.read.status("study").stop_reason == "failures"


def test_the_number_of_trials_at_a_time_changes_while_the_study_runs(workspace: Workspace, tmp_path: Path) -> None:
    start(
        workspace, {}, 1.0, 2.0, 3.0, 4.0, objective="study_objectives:sets_parallel", parallel=1,
        payload={"folder": str(workspace.settings.workspace), "meet": str(tmp_path)},
    )  # fmt: skip
    run_inline(workspace)

    status = workspace.studies.read.status("study")
    assert status.n_complete == 4, "trials 1 and 2 end only if they run at the same time"


def test_limits_are_shown_by_the_full_status(workspace: Workspace) -> None:
    start(workspace, {"patience": 3}, 1.0, 2.0)

    config = workspace.studies.read.status("study", full=True).config
    assert config is not None
    assert Limits.model_validate(config["limits"]).patience == 3
