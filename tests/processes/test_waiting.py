"""A real runner whose database is locked or whose disk is full: it says so, waits, and goes on by itself."""

import os
import shutil
import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing, suppress
from pathlib import Path

import psutil
import pytest

from mcp_server.health import check_invariants
from mcp_server.settings import Settings
from mcp_server.store.reserve import RESERVE_BYTES
from mcp_server.studies.summary import StudyEvent
from mcp_server.workspace import Workspace
from tests.conftest import eventually
from tests.processes.test_kill import related, runner_of, start_held
from tests.studies.running import callable_spec

pytestmark = pytest.mark.process

DISK_MB = 24


@pytest.fixture
def live(settings: Settings) -> Iterator[Workspace]:
    """A workspace whose studies run in detached processes; all of them are gone afterwards."""
    with Workspace(settings) as opened:
        yield opened
    _kill_all(settings.workspace)


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A disk of 24 MB."""
    if sys.platform != "linux" or os.geteuid() != 0:
        pytest.skip("only root can mount a small disk")
    disk = tmp_path / "disk"
    disk.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", f"size={DISK_MB}m", "tmpfs", str(disk)]
    if subprocess.run(command, capture_output=True, check=False).returncode:
        pytest.skip("this machine lets nobody mount a disk")
    try:
        yield disk
    finally:
        _kill_all(disk)
        subprocess.run(["umount", "--lazy", str(disk)], check=True)


def _kill_all(folder: Path) -> None:
    for process in related(folder):
        with suppress(psutil.NoSuchProcess):
            process.kill()


def waiting(workspace: Workspace) -> str:
    return workspace.studies.read.status("study").waiting or ""


def events_of(workspace: Workspace) -> list[StudyEvent]:
    return workspace.studies.read.events("study", limit=200).events


def fill(disk: Path) -> Path:
    """A file that takes all that is left of the disk."""
    filler = disk / "filler"
    with filler.open("ab", buffering=0) as file, suppress(OSError):
        while True:
            file.write(bytes(4096))
    assert shutil.disk_usage(disk).free < 4096
    return filler


def test_a_study_says_that_it_waits_for_a_locked_database_and_later_that_it_did(
    live: Workspace, tmp_path: Path
) -> None:
    folder = tmp_path / "held"
    start_held(live, folder, hold=0)
    with closing(sqlite3.connect(live.settings.workspace / "workspace.db", isolation_level=None)) as somebody:
        somebody.execute("BEGIN IMMEDIATE")
        (folder / "go").touch()
        eventually(lambda: waiting(live).startswith("database locked since "))
        assert "; waiting: database locked since " in live.studies.read.progress("study").line
        somebody.execute("ROLLBACK")

    eventually(lambda: live.studies.read.status("study").state == "finished")

    assert waiting(live) == ""
    kinds = [e for e in events_of(live) if e.kind in {"waiting", "resumed"}]
    assert [e.kind for e in kinds] == ["resumed", "waiting"]
    assert kinds[1].detail == {"for": "database locked"}
    assert kinds[1].at < kinds[0].at


def test_time_limits_of_trials_hold_while_their_runner_waits(live: Workspace, tmp_path: Path) -> None:
    # The runner writes every five seconds, so that it waits when the limit comes.
    spec = callable_spec(
        objective="study_objectives:gated", python_path=[str(Path(__file__).parent.parent / "studies")], n_trials=2,
        parallel=2, sampler="random", payload={"folder": str(tmp_path), "hold": 1}, trial_timeout_s=7.0,
    )  # fmt: skip
    live.studies.start(spec, "tester")
    (pid_file,) = eventually(lambda: list(tmp_path.glob("pid-1-*")))  # type: ignore[misc]
    worker = int(pid_file.name.split("-")[2])
    with closing(sqlite3.connect(live.settings.workspace / "workspace.db", isolation_level=None)) as somebody:
        somebody.execute("BEGIN IMMEDIATE")
        eventually(lambda: waiting(live))
        eventually(lambda: not psutil.pid_exists(worker))
        somebody.execute("ROLLBACK")

    eventually(lambda: live.studies.read.status("study").state == "finished")
    assert [job.state for job in live.studies.read.jobs("study")] == ["completed", "timeout"]


def test_a_runner_that_is_gone_waits_for_nothing(live: Workspace, tmp_path: Path) -> None:
    start_held(live, tmp_path / "held", hold=0)
    with closing(sqlite3.connect(live.settings.workspace / "workspace.db", isolation_level=None)) as somebody:
        somebody.execute("BEGIN IMMEDIATE")
        (tmp_path / "held" / "go").touch()
        eventually(lambda: waiting(live))
        runner = runner_of(live)
        assert runner is not None
        runner.kill()
        eventually(lambda: waiting(live) == "")


def test_a_study_waits_out_a_full_disk_with_room_left_for_orders(
    small_disk: Path, settings: Settings, tmp_path: Path
) -> None:
    settings = settings.model_copy(update={"workspace": small_disk / "workspace"})
    with Workspace(settings) as live:
        held = tmp_path / "held"
        start_held(live, held, hold=6, n_trials=40)
        reserve = settings.workspace / "reserve"
        assert reserve.stat().st_size == RESERVE_BYTES
        filler = fill(small_disk)
        (held / "go").touch()
        eventually(lambda: waiting(live).startswith("disk full since "))
        eventually(lambda: not reserve.exists())  # who tries to set it aside again makes it for a moment
        live.studies.control("study", "set_parallel", "tester", parallel=1)
        filler.unlink()

        eventually(lambda: live.studies.read.status("study").state == "finished")

        assert waiting(live) == ""
        assert reserve.stat().st_size == RESERVE_BYTES
        assert {job.state for job in live.studies.read.jobs("study")} == {"completed"}
        assert next(e.detail for e in events_of(live) if e.kind == "waiting") == {"for": "disk full"}
        eventually(lambda: not any("mcp_server.studies" in " ".join(p.cmdline()) for p in related(settings.workspace)))
        assert check_invariants(live) == []
