"""Orders, deaths and deletions in random order against a model; every invariant is checked after each step."""

import shutil
import tempfile
from contextlib import suppress
from pathlib import Path

import psutil
import pytest
from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule, run_state_machine_as_test

from mcp_server.access import Principal, Role
from mcp_server.errors import ConflictError, StudyFinishedError
from mcp_server.health import check_invariants
from mcp_server.settings import Settings
from mcp_server.types import ENDED_STATES
from mcp_server.workspace import Workspace
from tests.conftest import eventually
from tests.faults.conftest import at_work, check, end_all, faulty_spec, settle

pytestmark = pytest.mark.process

ANN = Principal("ann", Role.ADMIN)
NAMES = st.sampled_from(["one", "two"])
PATIENCE_S = 180.0
AT_REST = ENDED_STATES | {"paused"}


class Orders(RuleBasedStateMachine):
    """Two studies at most, with detached runners; `totals` and `seen` are the model."""

    def __init__(self, template: Path) -> None:
        super().__init__()
        self.folder = Path(tempfile.mkdtemp(prefix="orders-"))
        shutil.copytree(template, self.folder / "workspace")
        self.workspace = self.opened()
        self.totals: dict[str, int] = {}
        self.stopped: set[str] = set()
        self.seen: dict[tuple[str, int], float] = {}

    def opened(self) -> Workspace:
        return Workspace(Settings(workspace=self.folder / "workspace", parallel=2))

    def state(self, name: str) -> str:
        return self.workspace.studies.read.status(name).state

    def at_rest(self, name: str) -> bool:
        return self.state(name) in AT_REST

    def order(self, name: str, action: str, **parameters: object) -> bool:
        """Whether the order was taken; it is refused only if it comes too late or changes nothing."""
        try:
            self.workspace.studies.control(name, action, ANN, **parameters)
        except StudyFinishedError:
            assert self.state(name) in ENDED_STATES, f"{action} was refused, and the study has not ended"
        except ConflictError:
            return False
        else:
            return True
        return False

    @precondition(lambda self: len(self.totals) < 2)
    @rule(n_trials=st.integers(1, 6), parallel=st.integers(1, 2))
    def start(self, n_trials: int, parallel: int) -> None:
        name = next(one for one in ("one", "two") if one not in self.totals)
        spec = faulty_spec("short", name=name, n_trials=n_trials, parallel=parallel)
        self.workspace.studies.start(spec, ANN)
        self.totals[name] = n_trials

    @precondition(lambda self: self.totals)
    @rule(name=NAMES, more=st.integers(1, 4))
    def extend(self, name: str, more: int) -> None:
        if name in self.totals:
            assert self.order(name, "extend", n_trials=self.totals[name] + more)
            self.totals[name] += more
            self.stopped.discard(name)

    @precondition(lambda self: self.totals)
    @rule(name=NAMES)
    def pause(self, name: str) -> None:
        if name in self.totals and self.order(name, "pause"):
            eventually(lambda: self.workspace.studies.revive() or self.state(name) in AT_REST, within=PATIENCE_S)

    @precondition(lambda self: self.totals)
    @rule(name=NAMES)
    def resume(self, name: str) -> None:
        if name in self.totals and self.order(name, "resume"):
            self.stopped.discard(name)

    @precondition(lambda self: self.totals)
    @rule(name=NAMES)
    def stop(self, name: str) -> None:
        if name in self.totals and self.order(name, "stop"):
            eventually(lambda: self.tended() and self.state(name) in ENDED_STATES, within=PATIENCE_S)
            self.stopped.add(name)

    @precondition(lambda self: self.totals)
    @rule(name=NAMES, parallel=st.integers(1, 2))
    def set_parallel(self, name: str, parallel: int) -> None:
        if name in self.totals:
            self.order(name, "set_parallel", parallel=parallel)

    @precondition(lambda self: self.totals)
    @rule(name=NAMES, x=st.floats(-5, 5, allow_nan=False))
    def enqueue(self, name: str, x: float) -> None:
        if name in self.totals:
            self.order(name, "enqueue", params={"x": x, "k": "a"})

    @precondition(lambda self: self.totals)
    @rule(name=NAMES)
    def delete(self, name: str) -> None:
        if name not in self.totals:
            return
        try:
            self.workspace.studies.delete(name, ANN, confirm=name)
        except ConflictError:
            return  # it runs, or its runner is about to leave
        del self.totals[name]
        self.stopped.discard(name)
        self.seen = {key: value for key, value in self.seen.items() if key[0] != name}

    @rule()
    def kill_runner(self) -> None:
        self.kill("mcp_server.studies")

    @rule()
    def kill_tracker(self) -> None:
        self.kill("mcp_server.tracking")

    @rule(chosen=st.randoms(use_true_random=False))
    def kill_worker(self, chosen) -> None:
        with suppress(psutil.Error):
            servers = [p for p in at_work(self.folder) if "mcp_server.execution.fork_server" in p.cmdline()]
            if workers := [p for server in servers for p in server.children() if p.ppid() == server.pid]:
                chosen.choice(workers).kill()

    @rule()
    def replace_the_server(self) -> None:
        self.workspace.close()
        self.workspace = self.opened()
        self.workspace.studies.revive()

    @precondition(lambda self: self.totals)
    @rule(name=NAMES)
    def wait_for_a_trial(self, name: str) -> None:
        if name in self.totals:
            before = len(self.seen)
            eventually(
                lambda: self.tended() and (self.look() > before or self.state(name) in AT_REST), within=PATIENCE_S
            )

    def kill(self, module: str) -> None:
        with suppress(psutil.NoSuchProcess):
            for process in at_work(self.folder):
                if module in process.cmdline():
                    process.kill()
                    process.wait(60)

    def tended(self) -> bool:
        self.workspace.studies.revive()
        return True

    def look(self) -> int:
        """How many results were seen up to now; none may be gone or have changed."""
        for name in self.totals:
            found = {t.number: t for t in self.workspace.studies.read.trials(name)}
            for (study, number), value in self.seen.items():
                assert study != name or found[number].value == value, f"trial {number} of {name} has changed"
            self.seen |= {(name, t.number): t.value for t in found.values() if t.state == "complete"}
        return len(self.seen)

    @invariant()
    def nothing_is_wrong(self) -> None:
        self.look()
        for name, total in self.totals.items():
            assert self.workspace.studies.read.status(name).n_trials == total
        wrong = [v for v in check_invariants(self.workspace) if v.remedy != "revive"]
        assert wrong == [], wrong

    def teardown(self) -> None:
        """Everything ends: exactly the totals, in all stores."""
        try:
            for name in self.totals:
                if self.state(name) == "paused":
                    self.order(name, "resume")
            for name, total in self.totals.items():
                eventually(lambda name=name: self.tended() and self.state(name) in ENDED_STATES, within=PATIENCE_S)
                settle(self.workspace, name)
                status = self.workspace.studies.read.status(name)
                if name not in self.stopped and status.state == "finished":
                    check(self.workspace, total, name, failed=status.n_failed)
            assert check_invariants(self.workspace, settled=True) == []
        finally:
            self.workspace.close()
            end_all(self.folder)
            shutil.rmtree(self.folder)


def drive(template: Path, *, examples: int, steps: int) -> None:
    how = settings(
        max_examples=examples,
        stateful_step_count=steps,
        deadline=None,
        database=None,
        print_blob=True,
        phases=[Phase.generate],  # a shorter example of what depends on the moment says nothing
        suppress_health_check=list(HealthCheck),
    )
    run_state_machine_as_test(lambda: Orders(template), settings=how)


@pytest.mark.timeout(900)
@pytest.mark.nightly
def test_orders_and_deaths_in_any_order_leave_everything_right(ready: Path) -> None:
    drive(ready, examples=2, steps=8)


@pytest.mark.nightly
@pytest.mark.timeout(7200)
def test_many_orders_and_deaths_in_any_order_leave_everything_right(ready: Path) -> None:
    drive(ready, examples=40, steps=25)
