"""Fixtures every test may use: a workspace on a scratch folder, and studies that run inside the test."""

import os
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from pydantic import SecretStr

from mcp_server.settings import Settings
from mcp_server.workspace import Workspace
from tests.postgres import Server, serving

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


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Run tests that are marked `stores` on every database that can hold a workspace."""
    if metafunc.definition.get_closest_marker("stores") and "database_url" in metafunc.fixturenames:
        metafunc.parametrize("database_url", ["sqlite", "postgresql"], indirect=True)


@pytest.fixture(scope="session")
def postgres() -> Iterator[Server]:
    """A PostgreSQL server of this test process."""
    with serving() as server:
        if server is None:
            pytest.skip("no PostgreSQL server is installed")
        yield server


@pytest.fixture
def database_url(request: pytest.FixtureRequest) -> str | None:
    """The address of the database that holds the workspace; none is a file in its folder."""
    if getattr(request, "param", os.environ.get("TEST_STORE", "sqlite")) == "sqlite":
        return None
    server: Server = request.getfixturevalue("postgres")
    return server.fresh_url()


@pytest.fixture
def settings(tmp_path: Path, database_url: str | None) -> Settings:
    """Settings of a scratch workspace that may read the bundled samples and `tmp_path/files`."""
    files = tmp_path / "files"
    files.mkdir()
    url = None if database_url is None else SecretStr(database_url)
    return Settings(workspace=tmp_path / "workspace", data_roots=(SAMPLES, files), parallel=2, database_url=url)


@pytest.fixture
def workspace(settings: Settings) -> Iterator[Workspace]:
    """A workspace whose studies wait for `tests.studies.running.run_inline`."""
    with Workspace(settings, launch=lambda *_: None) as opened:
        yield opened
