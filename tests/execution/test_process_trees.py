import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from mcp_server.processes import kill_descendants, kill_tree
from mcp_server.testing.bench import eventually, running

pytestmark = pytest.mark.process

# A process that adopts orphans, with a child, a grandchild, and a daemon that left the session.
FAMILY = """
import subprocess, sys, time
from mcp_server.processes import adopt_orphans

adopt_orphans()
sleep = [sys.executable, "-I", "-S", "-c", "import time; time.sleep(600)"]
start = "import subprocess as s, time; p = s.Popen(%r, start_new_session=%r, stdout=-3); print(p.pid, flush=True); %s"
parent = [sys.executable, "-I", "-S", "-c", start % (sleep, False, "time.sleep(600)")]
daemon = [sys.executable, "-I", "-S", "-c", start % (sleep, True, "")]
child = subprocess.Popen(parent, stdout=subprocess.PIPE)
away = subprocess.run(daemon, stdout=subprocess.PIPE)
print(child.pid, child.stdout.readline().decode().strip(), away.stdout.decode().strip(), flush=True)
time.sleep(600)
"""


class Family:
    """A process tree to kill."""

    def __init__(self) -> None:
        self.root = subprocess.Popen(
            [sys.executable, "-c", FAMILY],
            stdout=subprocess.PIPE,
            env={"PYTHONPATH": str(Path(__file__).parents[2])},
            start_new_session=True,
        )
        assert self.root.stdout is not None
        with self.root.stdout as answer:
            self.descendants = [int(pid) for pid in answer.readline().split()]
        assert len(running(*self.descendants)) == 3


@pytest.fixture
def family() -> Iterator[Family]:
    family = Family()
    yield family
    for pid in (family.root.pid, *family.descendants):
        if running(pid):
            psutil.Process(pid).kill()
    family.root.wait()


def test_a_tree_is_killed_with_its_daemons(family: Family) -> None:
    kill_tree(family.root.pid)
    assert eventually(lambda: running(family.root.pid, *family.descendants) == [])


def test_descendants_are_killed_and_their_root_is_not(family: Family) -> None:
    kill_descendants(family.root.pid)
    assert eventually(lambda: running(*family.descendants) == [])
    assert running(family.root.pid) == [family.root.pid]


def test_killing_a_tree_leaves_its_neighbours_alone(family: Family) -> None:
    neighbour = Family()
    kill_tree(family.root.pid)
    assert running(*neighbour.descendants) == neighbour.descendants
    kill_tree(neighbour.root.pid)
    neighbour.root.wait()


def test_a_group_is_killed_after_its_leader_is_gone(family: Family) -> None:
    family.root.kill()
    family.root.wait()
    kill_tree(family.root.pid)
    assert eventually(lambda: running(*family.descendants[:2]) == [])


def test_killing_what_is_gone_is_harmless(family: Family) -> None:
    kill_tree(family.root.pid)
    family.root.wait()
    kill_tree(family.root.pid)
