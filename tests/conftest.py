"""Fixtures every test may use: a workspace on a scratch folder, and studies that run inside the test."""

import os
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from mcp_server.settings import Settings
from mcp_server.workspace import Workspace

SAMPLES = Path(__file__).parent.parent / "mcp_server" / "samples"
DEADLINE_S = 60.0

os.environ.setdefault("TUNING_TRIAL_ENVIRONMENT", "COVERAGE_*")  # so that what trials run is measured, too


def eventually(condition: Callable[[], object], *, within: float = DEADLINE_S) -> object:
    """What `condition` returns as soon as it is truthy."""
    until = time.monotonic() + within
    while time.monotonic() < until:
        if found := condition():
            return found
        time.sleep(0.02)
    raise AssertionError(f"not within {within:g} s: {condition}")


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    """Settings of a scratch workspace that may read the bundled samples and `tmp_path/files`."""
    files = tmp_path / "files"
    files.mkdir()
    return Settings(workspace=tmp_path / "workspace", data_roots=(SAMPLES, files), parallel=2)


@pytest.fixture
def workspace(settings: Settings) -> Iterator[Workspace]:
    """A workspace whose studies wait for `tests.studies.running.run_inline`."""
    with Workspace(settings, launch=lambda *_: None) as opened:
        yield opened
