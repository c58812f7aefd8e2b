"""How many trials of a study run at a time, and that an order changes it while they run."""

from itertools import accumulate, pairwise
from pathlib import Path

import pytest
from sqlalchemy import select

from mcp_server.access import Principal, Role
from mcp_server.settings import Settings
from mcp_server.store.schema import attempts
from mcp_server.workspace import Workspace
from tests.conftest import eventually
from tests.processes.test_kill import OBJECTIVES, live  # noqa: F401 - a fixture
from tests.studies.running import callable_spec

pytestmark = pytest.mark.process
OWNER = Principal("tester", Role.OPERATOR)


def test_an_order_changes_how_many_trials_run_at_a_time_while_they_run(live: Workspace, tmp_path: Path) -> None:  # noqa: F811
    folder = tmp_path / "held"
    folder.mkdir()
    spec = callable_spec(
        objective="study_objectives:gated", python_path=[OBJECTIVES], n_trials=5, parallel=1, sampler="random",
        payload={"folder": str(folder), "hold": 0},
    )  # fmt: skip
    live.studies.start(spec, "tester")
    eventually(lambda: list(folder.glob("pid-0-*")))

    live.studies.control("study", "set_parallel", OWNER, parallel=2)
    eventually(lambda: list(folder.glob("pid-1-*")))  # beside trial 0, which still waits

    live.studies.control("study", "set_parallel", OWNER, parallel=1)
    live.studies.control("study", "stop", OWNER, trial=1)  # is carried out by a runner that knows of the order before
    eventually(lambda: live.studies.read.trials("study")[1].state == "failed")
    (folder / "go").touch()
    eventually(lambda: live.studies.read.status("study").state == "finished")

    lives = [life for number, *life in spans(live) if number != 1]
    assert all(end <= begin for (_, end), (begin, _) in pairwise(lives))


def test_three_trials_run_at_the_same_time_and_never_a_fourth(settings: Settings, tmp_path: Path) -> None:
    folder = tmp_path / "held"
    folder.mkdir()
    spec = callable_spec(
        objective="study_objectives:gated", python_path=[OBJECTIVES], n_trials=9, parallel=3, sampler="random",
        payload={"folder": str(folder), "hold": 0},
    )  # fmt: skip
    with Workspace(settings.model_copy(update={"parallel": 3})) as workspace:
        workspace.studies.start(spec, "tester")
        eventually(lambda: len(list(folder.glob("pid-*"))) == 3)  # none of them has ended
        (folder / "go").touch()
        seen: set[int] = set()

        def finished() -> bool:
            status = workspace.studies.read.status("study")
            seen.add(status.n_running)
            return status.state == "finished"

        eventually(finished)
        lives = [life for _, *life in spans(workspace)]

    assert max(seen) <= 3
    edges = sorted([(begin, 1) for begin, _ in lives] + [(end, -1) for _, end in lives])
    assert max(accumulate(change for _, change in edges)) == 3


def spans(workspace: Workspace) -> list[tuple[int, float, float]]:
    """Number, begin and end of each attempt, by number."""
    own = (attempts.c.number, attempts.c.started_at, attempts.c.ended_at)
    with workspace.store.read() as connection:
        return [(row.number, row.started_at, row.ended_at) for row in connection.execute(select(*own).order_by(own[0]))]
