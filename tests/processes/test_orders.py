"""Orders that meet a study while its trials run, in real processes."""

from pathlib import Path

import pytest

from mcp_server.errors import ConflictError
from mcp_server.health import check_invariants
from mcp_server.workspace import Workspace
from tests.conftest import eventually
from tests.processes.test_kill import OBJECTIVES, live  # noqa: F401 - a fixture
from tests.studies.running import callable_spec

pytestmark = pytest.mark.process
SAMPLERS = ["random", "tpe", "cmaes", "bayesian", "sobol"]


def start_gated(workspace: Workspace, folder: Path, **changed: object) -> None:
    """A study whose trials wait for the file `go`, two at a time; returns when both are there."""
    folder.mkdir()
    spec = callable_spec(
        objective="study_objectives:gated", python_path=[OBJECTIVES], parallel=2,
        payload={"folder": str(folder), "hold": 0},
        search_space={"x": {"low": -5.0, "high": 5.0}, "y": {"low": -5.0, "high": 5.0}},
        **{"n_trials": 8, "sampler": "random", **changed},
    )  # fmt: skip
    workspace.studies.start(spec, "ann")
    eventually(lambda: len(list(folder.glob("pid-*"))) == 2)


def finished(workspace: Workspace, folder: Path, state: str = "finished") -> None:
    (folder / "go").touch()
    eventually(lambda: workspace.studies.read.status("study").state == state)
    assert check_invariants(workspace) == []


@pytest.mark.parametrize("sampler", SAMPLERS)
def test_a_candidate_and_a_narrower_space_are_obeyed_by_the_trials_that_follow(
    live: Workspace,  # noqa: F811
    tmp_path: Path,
    sampler: str,
) -> None:
    start_gated(live, tmp_path / "held", sampler=sampler)
    live.studies.control("study", "enqueue", "ann", params={"x": 4.5, "y": -4.5})
    with pytest.raises(ConflictError, match="waits"):
        live.studies.control("study", "enqueue", "ann", params={"x": 4.51, "y": -4.5})
    live.studies.control("study", "narrow", "ann", search_space={"x": {"low": 1.0, "high": 2.0}})
    live.studies.control("study", "stop", "ann", trial=1)  # is carried out by a runner that knows of the space, too
    eventually(lambda: live.studies.read.trials("study")[1].state == "failed")
    finished(live, tmp_path / "held")

    trials = live.studies.read.trials("study")
    assert [trial.state for trial in trials] == ["complete", "failed", *["complete"] * 6]
    (asked,) = [trial for trial in trials if trial.source == "enqueued"]
    assert (asked.number, asked.params) == (2, {"x": 4.5, "y": -4.5})
    assert all(1.0 <= float(str(trial.params["x"])) <= 2.0 for trial in trials if trial.number > 2)


def test_a_wider_space_reaches_the_runner_while_it_runs(live: Workspace, tmp_path: Path) -> None:  # noqa: F811
    start_gated(live, tmp_path / "held", n_trials=30)
    live.studies.control("study", "widen", "ann", search_space={"x": {"high": 500.0}})
    finished(live, tmp_path / "held")

    assert max(float(str(trial.params["x"])) for trial in live.studies.read.trials("study")) > 5.0


def test_a_drained_study_lets_what_runs_end_and_starts_nothing(live: Workspace, tmp_path: Path) -> None:  # noqa: F811
    start_gated(live, tmp_path / "held")
    live.studies.control("study", "stop", "ann", how="drain")
    finished(live, tmp_path / "held", "stopped")

    trials = live.studies.read.trials("study")
    assert [trial.state for trial in trials] == ["complete", "complete"]


def test_one_trial_is_stopped_and_the_others_go_on(live: Workspace, tmp_path: Path) -> None:  # noqa: F811
    start_gated(live, tmp_path / "held")
    live.studies.control("study", "stop", "ann", trial=1)
    eventually(lambda: live.studies.read.trials("study")[1].state == "failed")
    assert live.studies.read.trials("study")[0].state == "running"
    finished(live, tmp_path / "held")

    status = live.studies.read.status("study")
    assert (status.n_complete, status.failures) == (7, {"cancelled": 1})
