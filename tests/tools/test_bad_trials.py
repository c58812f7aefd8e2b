"""BAD_INPUTS rows 101 to 118: trials that misbehave, in studies that run as they do for a user.

Each study has one trial of each kind and good ones beside them: the bad one fails alone and tells why, and the rest of
the study is as if it had not been there.
"""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import anyio
import pytest
from mcp import Client

from mcp_server.access import Principal, Role
from mcp_server.server import build_server
from mcp_server.settings import Settings
from mcp_server.workspace import Workspace
from tests.conftest import eventually
from tests.studies.running import callable_spec

pytestmark = pytest.mark.process

GOOD = 2
HERE = str(Path(__file__).parent)


@pytest.fixture
def live(settings: Settings) -> Iterator[Workspace]:
    """A workspace whose studies run in detached processes."""
    with Workspace(settings) as opened:
        yield opened


def ask(workspace: Workspace, tool: str, **arguments: object) -> dict[str, Any]:
    """What a client is answered."""

    async def session() -> dict[str, Any]:
        server = build_server(workspace, caller=lambda: Principal("tester", Role.OPERATOR))
        async with Client(server) as client:
            result = await client.call_tool(tool, arguments)
            assert not result.is_error, result
            return result.structured_content or {}

    return anyio.run(session)


def run_with(workspace: Workspace, kind: str, **changed: object) -> dict[str, Any]:
    """The status of a study with a trial of `kind` among good ones, after its end."""
    spec = callable_spec(
        objective="bad_objectives:one_of", python_path=[HERE], sampler="grid", parallel=2,
        search_space={"kind": ["good", kind, "fine"]}, n_trials=GOOD + 1, **changed,
    )  # fmt: skip
    workspace.studies.start(spec, "tester")
    eventually(lambda: workspace.studies.read.status("study").state == "finished")
    return ask(workspace, "get_automl_study_status", study_name="study")


def test_a_trial_finds_no_secret_of_the_server(
    settings: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("TUNING_HTTP_TOKEN", "TUNING_NOTIFY_SECRET", "AWS_SECRET_ACCESS_KEY", "MLFLOW_TRACKING_TOKEN"):
        monkeypatch.setenv(name, "canary")
    monkeypatch.setenv("HF_HOME", "/cache")
    with Workspace(settings.model_copy(update={"trial_environment": ("COVERAGE_*", "HF_HOME")})) as live:
        status = run_with(live, "tells_its_environment", payload={"folder": str(tmp_path)})

    assert status["n_complete"] == GOOD + 1
    told = (tmp_path / "environment").read_text(encoding="utf-8")
    assert "canary" not in told
    assert {"PATH", "HOME", "TMPDIR", "TUNING_STUDY", "OMP_NUM_THREADS", "HF_HOME"} <= set(told.split())


@pytest.mark.parametrize(
    ("kind", "cause", "error", "changed"),
    [
        ("takes_memory", "out of memory", "limits.trial_memory_mb allows 300 MB", {"limits": {"trial_memory_mb": 300}}),
        ("fills_the_disk", "failed", "limits.trial_disk_mb allows 20 MB", {"limits": {"trial_disk_mb": 20}}),
        ("writes_one_large_file", "failed", "grew past limits.trial_disk_mb, 20 MB", {"limits": {"trial_disk_mb": 20}}),
    ],
)
def test_a_bad_trial_fails_alone_tells_why_and_leaves_nothing(
    live: Workspace, kind: str, cause: str, error: str, changed: dict[str, object]
) -> None:
    status = run_with(live, kind, **changed)

    assert (status["n_complete"], status["n_failed"], status["failures"]) == (GOOD, 1, {cause: 1})
    (bad,) = [trial for trial in live.studies.read.trials("study") if trial.state == "failed"]
    assert bad.params["kind"] == kind
    assert error in str(bad.error)
    assert [job.attempt for job in live.studies.read.jobs("study") if job.trial == bad.number] == [0]
