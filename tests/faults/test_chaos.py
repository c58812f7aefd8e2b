"""Processes die at random for as long as a study runs, and its result is as if nothing had happened."""

import secrets
from collections.abc import Iterator
from pathlib import Path

import pytest

from mcp_server.workspace import Workspace
from tests.conftest import eventually
from tests.faults.chaos import Chaos
from tests.faults.conftest import check, settle

pytestmark = pytest.mark.process


@pytest.fixture
def chaos(request: pytest.FixtureRequest, live: Workspace, tmp_path: Path) -> Iterator[Chaos]:
    rounds, n_trials = request.param
    seed = secrets.randbelow(2**32)
    made = Chaos(live, tmp_path, seed=seed, rounds=rounds, n_trials=n_trials)
    yield made
    made.close()


def survive(chaos: Chaos, rounds: int, n_trials: int) -> None:
    try:
        chaos.run()
        eventually(lambda: not chaos.left_over())
        settle(chaos.workspace)
        check(chaos.workspace, n_trials, failed=len(chaos.poisoned()))
        assert len(chaos.kills) == rounds
    except BaseException as exc:
        exc.add_note(f"seed {chaos.seed}, kills so far: {chaos.kills}")
        raise


@pytest.mark.timeout(600)
@pytest.mark.nightly
@pytest.mark.parametrize("chaos", [(6, 30)], indirect=True)
def test_six_kills_of_any_process_cost_no_trial(chaos: Chaos) -> None:
    survive(chaos, 6, 30)


@pytest.mark.nightly
@pytest.mark.timeout(3600)
@pytest.mark.parametrize("chaos", [(200, 300)], indirect=True)
def test_two_hundred_kills_of_any_process_cost_no_trial(chaos: Chaos) -> None:
    survive(chaos, 200, 300)
