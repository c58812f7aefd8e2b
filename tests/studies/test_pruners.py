from pathlib import Path

import pytest
from pydantic import ValidationError

from mcp_server.errors import InvalidRequestError
from mcp_server.studies.spec import StudySpec
from mcp_server.studies.summary import TrialSummary
from mcp_server.workspace import Workspace
from tests.studies.running import callable_spec, run_inline

OBJECTIVES = str(Path(__file__).parent)
EARLY = {"n_startup_trials": 4, "n_warmup_steps": 2}


def levels(
    workspace: Workspace, pruner: object, *xs: float, name: str = "study", **changed: object
) -> list[TrialSummary]:
    """The trials of a study whose trial i reports the value `xs[i]` at each of ten steps."""
    fields = {
        "objective": "study_objectives:curve",
        "python_path": [OBJECTIVES],
        "search_space": {"x": list(xs)},
        "sampler": "grid",
        "direction": "maximize",
        "n_trials": max(len(xs), 1),
        "pruner": pruner,
        **changed,
    }
    workspace.studies.start(callable_spec(name, **fields), "tester")
    run_inline(workspace, name)
    return workspace.studies.read.trials(name)


def cuts(trials: list[TrialSummary]) -> dict[int, str | None]:
    return {trial.number: trial.explanation for trial in trials if trial.state == "pruned"}


def test_the_median_pruner_says_what_the_trial_had_and_what_the_others_had(workspace: Workspace) -> None:
    trials = levels(workspace, {"type": "median", **EARLY}, 10.0, 9.0, 8.0, 7.0, 8.25, 9.5)

    assert cuts(trials) == {4: "pruned at step 2: 8.25 below the median 8.5 of 4 trials"}
    assert len(trials[4].folds or []) == 3, "its history ends at the step of the cut"


def test_a_minimised_study_is_cut_above_the_median(workspace: Workspace) -> None:
    trials = levels(workspace, {"type": "median", **EARLY}, 1.0, 2.0, 3.0, 4.0, 2.6, direction="minimize")

    assert cuts(trials) == {4: "pruned at step 2: 2.6 above the median 2.5 of 4 trials"}


@pytest.mark.parametrize(("warmup", "interval", "step"), [(1, 1, 1), (4, 1, 4), (0, 3, 0)])
def test_the_first_cut_moves_with_the_warm_up_and_the_interval(
    workspace: Workspace, warmup: int, interval: int, step: int
) -> None:
    pruner = {"type": "median", "n_startup_trials": 2, "n_warmup_steps": warmup, "interval_steps": interval}
    trials = levels(workspace, pruner, 2.0, 3.0, 1.0)

    assert [len(trial.folds or []) - 1 for trial in trials if trial.state == "pruned"] == [step]


def test_the_percentile_pruner_keeps_only_the_best_share(workspace: Workspace) -> None:
    trials = levels(workspace, {"type": "percentile", "percentile": 25.0, **EARLY}, 10.0, 9.0, 8.0, 7.0, 9.1, 9.5)

    assert cuts(trials) == {4: "pruned at step 2: 9.1 below the best 25 % mark 9.25 of 4 trials"}


def test_successive_halving_lets_one_in_three_go_on(workspace: Workspace) -> None:
    trials = levels(workspace, "successive_halving", 5.0, 4.0, 6.0, 3.0)

    assert cuts(trials) == {
        1: "pruned at step 1: 4 is not among the best 1 of 2 trials at rung 0, which takes 5",
        3: "pruned at step 1: 3 is not among the best 1 of 4 trials at rung 0, which takes 6",
    }


def test_hyperband_cuts_within_brackets_and_not_all_at_the_same_step(workspace: Workspace) -> None:
    xs = [float(x) for x in range(40, 0, -1)]
    trials = levels(workspace, {"type": "hyperband", "max_resource": 9}, *xs)

    steps = {len(trial.folds or []) - 1 for trial in trials if trial.state == "pruned"}
    assert {1, 3} <= steps, "the brackets begin to cut at step 1 and at step 3"
    assert all("is not among the best" in str(why) for why in cuts(trials).values())


@pytest.mark.parametrize("pruner", ["successive_halving", {"type": "hyperband", "max_resource": 9}, "median"])
def test_a_new_runner_decides_as_the_one_before_it_would_have(workspace: Workspace, pruner: object) -> None:
    xs = [5.0, 4.0, 6.0, 3.0, 7.0, 2.0, 5.5, 8.0, 1.0, 6.5, 4.5, 9.0, 0.5, 7.5, 3.5, 8.5]
    whole = levels(workspace, pruner, *xs, name="whole")
    levels(workspace, pruner, *xs, name="parts", n_trials=7)
    workspace.studies.control("parts", "extend", "tester", n_trials=len(xs))
    run_inline(workspace, "parts")

    assert cuts(workspace.studies.read.trials("parts")) == cuts(whole) != {}


def test_the_patient_pruner_waits_for_a_gain(workspace: Workspace) -> None:
    trials = levels(
        workspace, {"type": "patient", "patience": 2}, objective="study_objectives:hill",
        search_space={"peak": [2.0, 9.0]}, n_trials=2,
    )  # fmt: skip

    assert cuts(trials) == {0: "pruned at step 5: no gain over 0 for 3 steps"}


def test_a_patient_pruner_cuts_only_what_the_wrapped_one_would_cut_too(workspace: Workspace) -> None:
    peaks = [9.0, 8.0, 7.0, 8.5, 6.0, 2.0, 8.25]  # at step 4 the curve with its peak at 2 is still better than most
    trials = levels(
        workspace, {"type": "patient", "patience": 1, "wrapped": "median"}, objective="study_objectives:hill",
        search_space={"peak": [*peaks]}, n_trials=len(peaks),
    )  # fmt: skip
    alone = levels(
        workspace, {"type": "patient", "patience": 1}, name="alone", objective="study_objectives:hill",
        search_space={"peak": [*peaks]}, n_trials=len(peaks),
    )  # fmt: skip

    assert 5 not in cuts(trials)
    assert 5 in cuts(alone)


def test_the_threshold_pruner_cuts_at_fixed_bounds(workspace: Workspace) -> None:
    trials = levels(workspace, {"type": "threshold", "lower": 0.5, "upper": 1.0}, 0.7, 1.3, 0.25)

    assert cuts(trials) == {
        1: "pruned at step 0: 1.3 above the upper threshold 1",
        2: "pruned at step 0: 0.25 below the lower threshold 0.5",
    }


def test_the_wilcoxon_pruner_names_the_trial_it_compared_with(workspace: Workspace) -> None:
    trials = levels(workspace, {"type": "wilcoxon", "p_threshold": 0.2}, 9.0, 1.0)

    assert cuts(trials) == {1: "pruned at step 2: p = 0.125 that it is as good as trial 0, on 3 folds"}


def test_without_a_pruner_no_trial_is_cut_however_bad_it_is(workspace: Workspace) -> None:
    assert cuts(levels(workspace, "none", 10.0, 9.0, 8.0, 7.0, 6.0, 5.0, -100.0)) == {}


def test_the_reason_of_a_cut_is_in_the_events_and_in_the_exported_history(workspace: Workspace) -> None:
    levels(workspace, {"type": "threshold", "upper": 1.0}, 1.3)

    (ended,) = [e for e in workspace.studies.read.events("study").events if e.kind == "trial_ended"]
    assert ended.detail is not None
    assert ended.detail["why"] == "pruned at step 0: 1.3 above the upper threshold 1"
    table = workspace.studies.read.table("study")
    assert table.rows[0][table.columns.index("explanation")] == ended.detail["why"]


@pytest.mark.parametrize(
    ("pruner", "reason"),
    [
        ("medain", "median"),
        ({"type": "threshold"}, "threshold needs lower, upper or both"),
        ({"type": "threshold", "lower": 2.0, "upper": 1.0}, "lower 2 must be below upper 1"),
        ({"type": "percentile", "percentile": 100.0}, "less than 100"),
        ({"type": "patient", "wrapped": "patient"}, "'median' or 'percentile'"),
        ({"type": "successive_halving", "reduction_factor": 1}, "greater than or equal to 2"),
    ],
)
def test_a_pruner_that_makes_no_sense_is_refused(pruner: object, reason: str) -> None:
    with pytest.raises(ValidationError, match=reason):
        StudySpec.model_validate({"study_name": "s", "pruner": pruner})


@pytest.mark.parametrize(
    ("pruner", "reason"),
    [
        ("hyperband", "how many steps a whole trial reports"),
        ({"type": "hyperband", "min_resource": 10, "max_resource": 9}, "min_resource 10 > max_resource 9"),
    ],
)
def test_hyperband_does_not_guess_how_long_a_trial_is(workspace: Workspace, pruner: object, reason: str) -> None:
    with pytest.raises(InvalidRequestError, match=reason):
        levels(workspace, pruner, 1.0, 2.0)

    assert workspace.studies.read.page().total == 0
