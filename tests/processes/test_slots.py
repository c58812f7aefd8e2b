"""Studies that run at the same time share the places of their workspace, in real processes."""

import os
import signal
from pathlib import Path

import pytest

from mcp_server.access import Principal, Role
from mcp_server.settings import Settings
from mcp_server.studies.spec import CallableStudySpec
from mcp_server.workspace import Workspace
from tests.conftest import eventually
from tests.processes.test_kill import OBJECTIVES, live, related  # noqa: F401 - a fixture
from tests.processes.test_parallel import spans
from tests.studies.running import callable_spec

pytestmark = pytest.mark.process
OWNER = Principal("tester", Role.OPERATOR)


def gated(name: str, folder: Path, **changed: object) -> CallableStudySpec:
    """A study whose trials wait for the file `go` in `folder/name`."""
    (folder / name).mkdir()
    return callable_spec(
        name, objective="study_objectives:gated", python_path=[OBJECTIVES], sampler="random",
        **{"payload": {"folder": str(folder / name), "hold": 0}, "n_trials": 2, "parallel": 2, **changed},
    )  # fmt: skip


def begun(folder: Path, name: str) -> list[str]:
    return sorted(path.name.split("-")[1] for path in (folder / name).glob("pid-*"))


def test_a_second_study_waits_says_so_and_does_not_pay_for_it(live: Workspace, tmp_path: Path) -> None:  # noqa: F811
    live.studies.start(gated("first", tmp_path), "ann")
    eventually(lambda: begun(tmp_path, "first") == ["0", "1"])
    live.studies.start(gated("second", tmp_path, timeout_s=3600), "bob")
    eventually(lambda: "waits for a free slot" in live.studies.read.status("second").message)

    assert live.studies.read.progress("second").line == "trial 0/2, waits for a free slot"
    queue = live.queue.status()
    assert (queue.slots_busy, queue.slots) == (2, 2)
    assert [(row[0], row[4], row[5], row[6]) for row in queue.studies.rows] == [
        ("second", 0, 2, "a free slot"),
        ("first", 2, 0, None),
    ]
    assert queue.users.rows == [["ann", 2, 0, 0], ["bob", 0, 2, 0]]
    waited_from = live.studies.read.status("second").elapsed_s

    (tmp_path / "first" / "go").touch()
    eventually(lambda: begun(tmp_path, "second") == ["0", "1"])
    assert live.studies.read.status("second").elapsed_s - waited_from < 1.0  # it was 0 while it waited
    (tmp_path / "second" / "go").touch()
    eventually(lambda: live.studies.read.status("second").state == "finished")
    assert live.queue.status().users.rows == [["ann", 0, 0, 2], ["bob", 0, 0, 2]]


def test_two_studies_never_run_more_trials_than_there_are_places(live: Workspace) -> None:  # noqa: F811
    for name, owner in (("first", "ann"), ("second", "bob")):
        live.studies.start(callable_spec(name, n_trials=12, parallel=2, sampler="random", preload=[]), owner)
    for name in ("first", "second"):
        eventually(lambda name=name: live.studies.read.status(name).state == "finished")

    edges = [edge for _, begin, end in spans(live) for edge in ((begin, 1), (end, -1))]
    at_a_time, most = 0, 0
    for _, change in sorted(edges):  # an end goes before a begin at the same moment
        at_a_time += change
        most = max(most, at_a_time)
    assert most <= 2
    ends = {name: max(t.ended_at or 0.0 for t in live.studies.read.trials(name)) for name in ("first", "second")}
    starts = {name: min(t.started_at for t in live.studies.read.trials(name)) for name in ("first", "second")}
    assert max(starts.values()) < min(ends.values())  # neither had to wait for the other's end


def test_a_killed_runner_leaves_its_places_to_others(live: Workspace, tmp_path: Path) -> None:  # noqa: F811
    live.studies.start(gated("first", tmp_path), "ann")
    eventually(lambda: begun(tmp_path, "first") == ["0", "1"])
    live.studies.start(gated("second", tmp_path), "bob")
    eventually(lambda: "waits for a free slot" in live.studies.read.status("second").message)

    killed = [
        p
        for p in related(live.settings.workspace)
        if "mcp_server.studies" in p.cmdline() and first(live) in p.cmdline()
    ]
    for process in killed:
        os.kill(process.pid, signal.SIGKILL)
    assert killed

    eventually(lambda: begun(tmp_path, "second") == ["0", "1"])


def first(workspace: Workspace) -> str:
    with workspace.store.read() as connection:
        return str(connection.exec_driver_sql("SELECT id FROM studies WHERE name = 'first'").scalar_one())


def test_each_trial_sees_the_gpus_of_its_place_and_no_others(settings: Settings, tmp_path: Path) -> None:
    with Workspace(settings.model_copy(update={"gpus": ("0", "GPU-b")})) as opened:
        for name, gpus in (("devices", 1), ("none", 0)):
            (tmp_path / name).mkdir()
            spec = callable_spec(
                name, objective="study_objectives:environment", python_path=[OBJECTIVES], n_trials=6, parallel=2,
                sampler="random", payload={"folder": str(tmp_path / name)}, gpus=gpus,
            )  # fmt: skip
            opened.studies.start(spec, "tester")
            eventually(lambda name=name: opened.studies.read.status(name).state == "finished")

    seen = {name: [visible(path) for path in (tmp_path / name).glob("*.env")] for name in ("devices", "none")}
    assert set(seen["devices"]) == {"0", "GPU-b"}
    assert seen["none"] == [""] * 6


def visible(path: Path) -> str:
    lines = path.read_text(encoding="utf-8").splitlines()
    return next(line.partition("=")[2] for line in lines if line.startswith("CUDA_VISIBLE_DEVICES="))


def test_a_study_can_be_stopped_while_it_waits(live: Workspace, tmp_path: Path) -> None:  # noqa: F811
    live.studies.start(gated("first", tmp_path), "ann")
    eventually(lambda: begun(tmp_path, "first") == ["0", "1"])
    live.studies.start(gated("second", tmp_path), "bob")
    eventually(lambda: live.queue.status().studies.rows[0][6] == "a free slot")

    live.studies.control("second", "stop", Principal("bob", Role.OPERATOR))

    eventually(lambda: live.studies.read.status("second").state == "stopped")
    assert [row[0] for row in live.queue.status().studies.rows] == ["first"]
