"""How a process is detached from its client, on the systems that these tests do not run on, too."""

import subprocess
import sys
from pathlib import Path

import pytest

from mcp_server import processes
from mcp_server.processes import detaching_flags

NO_CONSOLE, NEW_GROUP, OUT_OF_JOB = 0x8, 0x200, 0x0100_0000

# A system whose jobs let out only who has one of the flags in `allowed`.
JOB_KEEPER = """
import subprocess, sys

allowed, code = sys.argv.pop(1), sys.argv.pop(1)


class Process:
    def __init__(self, command, creationflags, **options):
        if str(creationflags) not in allowed.split(","):
            raise PermissionError(5, "Access is denied")
        self.pid = creationflags


subprocess.Popen = Process
exec(code)
"""


def launched(log: Path, allowed: str, flags: list[int]) -> subprocess.CompletedProcess[str]:
    arguments = [allowed, processes._LAUNCHER, str(log), ",".join(map(str, flags)), "program"]
    return subprocess.run([sys.executable, "-c", JOB_KEEPER, *arguments], capture_output=True, text=True, check=False)


@pytest.mark.parametrize("platform", ["linux", "darwin"])
def test_a_system_with_sessions_needs_no_flags(platform: str) -> None:
    assert detaching_flags(platform) == [0]


def test_on_windows_a_process_leaves_console_group_and_job() -> None:
    assert detaching_flags("win32") == [NO_CONSOLE | NEW_GROUP | OUT_OF_JOB, NO_CONSOLE | NEW_GROUP]


def test_a_process_leaves_the_job_where_that_is_allowed(tmp_path: Path) -> None:
    first, second = detaching_flags("win32")
    assert launched(tmp_path / "log", f"{first},{second}", [first, second]).stdout == f"{first}\n"


def test_a_job_that_lets_nobody_out_is_stayed_in(tmp_path: Path) -> None:
    first, second = detaching_flags("win32")
    assert launched(tmp_path / "log", f"{second}", [first, second]).stdout == f"{second}\n"


def test_a_process_that_cannot_be_started_at_all_says_why(tmp_path: Path) -> None:
    done = launched(tmp_path / "log", "", detaching_flags("win32"))
    assert done.returncode == 1
    assert done.stderr.rstrip().endswith("Access is denied")
