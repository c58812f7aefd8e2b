"""kill -9 at each write and sync of a process, one after the other; a healthy process then goes on, and all is right.

A handful of points in `make check`, all of them in `make nightly`.
"""

import shutil
import signal
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest

from mcp_server.tracking.tracker import tracker_lock
from mcp_server.workspace import Workspace
from tests.conftest import eventually
from tests.faults import crash_points, orders
from tests.faults.conftest import asleep, check, faulty_spec
from tests.faults.crash_points import Point
from tests.health.conftest import deliver
from tests.studies.running import run_inline

pytestmark = pytest.mark.process

PARTS = 8
WORKER_CALLS = ("write", "close", "times", "exit_group")  # what others can see of it; waits are not among them


@pytest.fixture(autouse=True)
def strace() -> None:
    crash_points.needs_strace()


@dataclass(frozen=True)
class Sweep:
    """The points at which one process, started on a copy of `template`, can be killed."""

    template: Path
    folder: Path
    module: str
    arguments: list[str]
    database: str | None
    sample: Point

    @property
    def log(self) -> Path:
        return self.folder / "strace.log"

    def points(self) -> list[Point]:
        """All of them, by a run that is not killed."""
        with self._workspace(None) as root:
            assert self._run(root, None) == 0
        shutil.rmtree(root)
        return crash_points.points(self.log)

    def kill_at(self, point: Point) -> None:
        """Kill the process at a point, let a healthy one go on, and check everything."""
        with self._workspace(point) as root:
            assert self._run(root, point) == -signal.SIGKILL, f"point {point}: it was not killed"
            assert crash_points.was_killed(self.log)
        with asleep(root) as workspace:
            if self.module == orders.__name__:
                orders.give(workspace)
            run_inline(workspace)
            deliver(workspace)
            check(workspace, n_trials=orders.TRIALS if self.module == orders.__name__ else 1)
        shutil.rmtree(root)

    def _workspace(self, point: Point | None) -> "_Copy":
        # A folder of its own for each: mlflow keeps its connections to a path for as long as the process lives.
        name = "untouched" if point is None else f"{point.call}-{point.time}"
        return _Copy(self.template, self.folder / name, hold=self.module != "mcp_server.tracking")

    def _run(self, root: Path, point: Point | None) -> int:
        file = None if self.database is None else root / self.database
        words = crash_points.tracing(self.log, crash_points.WRITES, at=point, file=file)
        return crash_points.run(self.module, ["--workspace", str(root), *self.arguments], words)


class _Copy:
    """A copy of a workspace; a runner in it starts no tracker, because the tracker's lock is held."""

    def __init__(self, template: Path, root: Path, *, hold: bool) -> None:
        shutil.copytree(template, root)
        self.root = root
        with asleep(root) as workspace:
            self._lock = tracker_lock(workspace.settings) if hold else None

    def __enter__(self) -> Path:
        assert self._lock is None or self._lock.acquire()
        return self.root

    def __exit__(self, *_: object) -> None:
        if self._lock is not None:
            self._lock.release()


@pytest.fixture(scope="session")
def queued(tmp_path_factory: pytest.TempPathFactory, ready: Path) -> Path:
    """A workspace with one study of one trial, which nobody has begun."""
    folder = tmp_path_factory.mktemp("queued") / "workspace"
    shutil.copytree(ready, folder)
    with asleep(folder) as workspace:
        workspace.studies.start(faulty_spec(), "tester")
    return folder


@pytest.fixture(scope="session")
def undelivered(tmp_path_factory: pytest.TempPathFactory, queued: Path) -> Path:
    """The same, and the study has ended; MLflow knows nothing yet."""
    folder = tmp_path_factory.mktemp("undelivered") / "workspace"
    shutil.copytree(queued, folder)
    with asleep(folder) as workspace:
        run_inline(workspace)
    return folder


@pytest.fixture
def sweep(request: pytest.FixtureRequest, tmp_path: Path, ready: Path, queued: Path, undelivered: Path) -> Sweep:
    database, sample = SWEPT[request.param]
    if request.param == "server":
        return Sweep(ready, tmp_path, orders.__name__, [], database, sample)
    if request.param == "tracker":
        return Sweep(undelivered, tmp_path, "mcp_server.tracking", ["--idle-s", "0"], database, sample)
    with asleep(queued) as workspace:
        study_id = workspace.studies.runner_log("study").parent.name
    return Sweep(queued, tmp_path, "mcp_server.studies", ["--study", study_id], database, sample)


SWEPT = {
    # A point that is not there any more shows as a process that was not killed.
    "runner": ("workspace.db", Point("pwrite64", 45)),
    "server": ("workspace.db", Point("fdatasync", 2)),
    "mirror": ("optuna.db", Point("pwrite64", 120)),
    "tracker": (None, Point("fdatasync", 4)),  # it leaves a journal that has to be rolled back
}


@pytest.mark.parametrize("sweep", SWEPT, indirect=True)
def test_a_server_a_runner_and_a_tracker_may_die_in_the_middle(sweep: Sweep) -> None:
    sweep.kill_at(sweep.sample)


@pytest.mark.nightly
@pytest.mark.timeout(3600)
@pytest.mark.parametrize("part", range(PARTS))
@pytest.mark.parametrize("sweep", SWEPT, indirect=True)
def test_a_server_a_runner_and_a_tracker_may_die_at_every_write(sweep: Sweep, part: int, capsys) -> None:
    points = sweep.points()[part::PARTS]
    for point in points:
        sweep.kill_at(point)
    with capsys.disabled():
        sys.stderr.write(f"{len(points)} crash points survived\n")


@pytest.fixture
def gated(live: Workspace, tmp_path: Path) -> "GatedStudy":
    return GatedStudy(live, tmp_path)


class GatedStudy:
    """A study each of whose trials waits, so that its worker can be traced from there to its end."""

    def __init__(self, workspace: Workspace, folder: Path) -> None:
        self.workspace = workspace
        self._folder = folder / "gates"
        self._folder.mkdir()
        payload = {"folder": str(self._folder)}
        workspace.studies.start(faulty_spec("at_a_gate", payload=payload), "tester")

    def trace(self, number: int, at: Point | None) -> Path:
        """The log of a trace of a trial's first worker, which is killed at that point."""
        pid = int(eventually((self._folder / f"{number}.pid").exists) and (self._folder / f"{number}.pid").read_text())
        log, said = self._folder / f"{number}.strace", self._folder / f"{number}.said"
        words = crash_points.tracing(log, WORKER_CALLS, at=at)
        with said.open("wb") as sink, subprocess.Popen([*words, "-p", str(pid)], stderr=sink) as strace:
            eventually(lambda: "attached" in said.read_text())
            (self._folder / f"{number}.gate").write_bytes(b"")
            strace.wait(crash_points.PATIENCE_S)
        return log

    def kill_at(self, points: list[Point]) -> None:
        """One more trial for each point, whose first worker is killed there; then check everything."""
        total = 1 + len(points)
        self.workspace.studies.control("study", "extend", "tester", n_trials=total)
        for number, point in enumerate(points, 1):
            assert crash_points.was_killed(self.trace(number, point)), f"point {point}: it was not killed"
        eventually(lambda: self.workspace.studies.read.status("study").state == "finished")
        jobs = [job.state for job in self.workspace.studies.read.jobs("study")]
        assert jobs.count("completed") == total
        assert set(jobs) <= {"completed", "lost"}
        eventually(lambda: self.workspace.studies.read.status("study").tracking.synced)
        check(self.workspace, n_trials=total)

    def points(self) -> list[Point]:
        """The points of a worker from its gate to its end, by a trial that is not killed."""
        return crash_points.points(self.trace(0, None))


def test_a_worker_may_die_in_the_middle(gated: GatedStudy) -> None:
    gated.kill_at([point for point in gated.points() if point.call == "write"][::2])


@pytest.mark.nightly
@pytest.mark.timeout(3600)
def test_a_worker_may_die_at_every_system_call(gated: GatedStudy) -> None:
    gated.kill_at(gated.points())
