import math

import pytest
from sqlalchemy import select, update

from mcp_server.store.schema import studies, trials
from mcp_server.studies.comparison import corrected_standard_error, running_best, sparkline, verdict
from mcp_server.studies.spec import StudyDefinition
from mcp_server.studies.summary import BaselineComparison
from mcp_server.workspace import Workspace
from tests.studies.test_runner import start


def test_the_error_of_a_difference_is_corrected_for_overlapping_folds() -> None:
    differences = [0.1, 0.3, 0.2, 0.0]
    folds = [0.5 + difference for difference in differences]
    spread = sum((d - 0.15) ** 2 for d in differences) / 3

    assert corrected_standard_error(folds, [0.5] * 4) == pytest.approx(math.sqrt(spread * (1 / 4 + 1 / 3)))


@pytest.mark.parametrize(("one", "other"), [([0.5], [0.4]), ([], []), ([0.5, 0.6], [0.5])])
def test_scores_that_cannot_be_paired_have_no_error(one: list[float], other: list[float]) -> None:
    assert corrected_standard_error(one, other) is None


@pytest.mark.parametrize(
    ("difference", "error", "expected"),
    [
        (0.05, 0.02, "It beats the defaults by 0.05"),
        (-0.05, 0.02, "It beats the defaults by 0.05"),
        (0.03, 0.02, "within the noise"),
        (0.03, None, "the noise is unknown"),
    ],
)
def test_a_gain_is_called_one_above_twice_its_noise(difference: float, error: float | None, expected: str) -> None:
    assert expected in verdict(difference, error, is_baseline=False)


def test_the_defaults_may_win() -> None:
    assert verdict(0.0, 0.1, is_baseline=True) == "No trial beat the defaults."


def test_the_best_so_far_falls_when_low_is_good() -> None:
    assert running_best([0.5, 0.4, 0.7], "minimize") == [0.5, 0.4, 0.4]
    assert sparkline(running_best([3.0, 2.0, 9.0, 1.0], "minimize")) == "█▅▅▁"


def test_a_minimised_study_is_compared_with_its_baseline_fold_by_fold(workspace: Workspace) -> None:
    start(workspace, n_trials=2)
    scores = {0: [3.0, 4.0, 5.0], 1: [2.0, 2.5, 4.5]}
    with workspace.store.write() as connection:
        row = connection.execute(select(studies.c.id, studies.c.spec)).one()
        definition = StudyDefinition.model_validate(row.spec).model_copy(update={"baseline": {"x": 1.0}})
        connection.execute(update(studies).values(spec=definition.model_dump(mode="json")))
        for number, folds in scores.items():
            values = {"study_id": row.id, "number": number, "state": "complete", "source": "baseline", "params": {}}
            times = {"optuna_number": number, "started_at": 1.0, "folds": folds, "value": sum(folds) / 3}
            connection.execute(trials.insert().values(**values, **times))

    found = workspace.studies.read.status("study").baseline

    assert isinstance(found, BaselineComparison)
    assert (found.value, found.difference) == (4.0, pytest.approx(-1.0))
    assert found.standard_error == pytest.approx(corrected_standard_error(scores[1], scores[0]), rel=1e-3)
    assert "beats the defaults by 1, more than twice" in found.verdict
