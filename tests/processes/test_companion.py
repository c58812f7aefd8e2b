"""Companions and detached processes that do not come up, or do not last."""

import os
import signal
import threading
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from mcp_server.errors import BackendUnavailableError, DeadlineExceededError
from mcp_server.processes import Companion, spawn_detached
from tests.conftest import eventually

pytestmark = pytest.mark.process

SLOW = """
import time
from mcp_server.processes import answer_requests

def slow(arguments):
    time.sleep(60)
    return {}

answer_requests({"slow": slow, "quick": lambda arguments: {"pid": __import__("os").getpid()}})
"""


@pytest.fixture
def companion(tmp_path: Path) -> Iterator[Companion]:
    (tmp_path / "slow_companion.py").write_text(SLOW, encoding="utf-8")
    path = {"PYTHONPATH": os.pathsep.join([str(Path(__file__).parents[2]), str(tmp_path)])}
    found = Companion("slow_companion", [], log=tmp_path / "log", environment=path)
    yield found
    found.close()


def test_a_question_that_takes_too_long_ends_and_the_next_one_is_answered(companion: Companion) -> None:
    with pytest.raises(DeadlineExceededError, match=r"longer than 0\.\d+ s"):
        companion.ask("slow", {}, timeout_s=0.5)

    assert companion.ask("quick", {})["pid"]


def test_a_companion_that_is_killed_is_not_called_slow(companion: Companion) -> None:
    pid = int(str(companion.ask("quick", {})["pid"]))
    killer = threading.Timer(0.3, os.kill, (pid, signal.SIGKILL))
    killer.start()

    with pytest.raises(BackendUnavailableError, match="died over this request"):
        companion.ask("slow", {})

    eventually(lambda: not psutil.pid_exists(pid))


def test_waiting_for_a_turn_is_part_of_the_deadline(companion: Companion) -> None:
    def ask_first() -> None:
        with pytest.raises(DeadlineExceededError):
            companion.ask("slow", {}, timeout_s=1.0)

    first = threading.Thread(target=ask_first)
    first.start()
    eventually(companion._turn.locked)

    with pytest.raises(DeadlineExceededError, match=r"longer than [01]\.\d+ s"):
        companion.ask("slow", {}, timeout_s=2.0)
    first.join()


def test_a_process_that_cannot_be_started_is_an_error_that_may_be_tried_again(tmp_path: Path) -> None:
    (tmp_path / "log").mkdir()

    with pytest.raises(BackendUnavailableError, match="cannot be started: IsADirectoryError"):
        spawn_detached("mcp_server", [], log=tmp_path / "log", folder=tmp_path)
