"""BAD_INPUTS rows 101 to 118: trials that misbehave, in one study that runs as it does for a user.

All of them are trials of the same study, two at a time, with good ones beside them: each bad one fails alone and tells
why, the others complete, nothing is left, and a client that asks is told the same.
"""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import anyio
import pytest
from mcp import Client
from pydantic import ValidationError

from mcp_server.access import Principal, Role
from mcp_server.health import check_invariants
from mcp_server.processes import owned_processes
from mcp_server.server import build_server
from mcp_server.settings import Settings
from mcp_server.studies.summary import TrialSummary
from mcp_server.workspace import Workspace
from tests.conftest import eventually
from tests.studies.running import callable_spec

pytestmark = pytest.mark.process

HERE = str(Path(__file__).parent)
LIMITS = {"trial_memory_mb": 300, "trial_disk_mb": 20}
SECRETS = ("TUNING_HTTP_TOKEN", "TUNING_NOTIFY_SECRET", "AWS_SECRET_ACCESS_KEY", "MLFLOW_TRACKING_TOKEN")

FAIL = [
    (101, "returns_nan", "failed", "objective returned nan"),
    (102, "returns_inf", "failed", "objective returned inf"),
    (102, "returns_minus_inf", "failed", "objective returned -inf"),
    (103, "returns_text", "failed", "objective returned 0.9 (str) and not a number"),
    (103, "returns_none", "failed", "objective returned None (NoneType) and not a number"),
    (103, "returns_a_list", "failed", "objective returned [0.9, 0.8] (list) and not a number"),
    (103, "returns_too_many_folds", "failed", "1,000,000 folds, and 10,000 are allowed"),
    (106, "segfaults", "failed", "signal 11 (SIGSEGV)"),
    (107, "exits", "failed", "the trial called sys.exit(0) without returning a metric"),
    (108, "takes_memory", "out of memory", "MB, and limits.trial_memory_mb allows 300 MB"),
    (108, "asks_for_64_gb", "out of memory", "out of memory: MemoryError"),
    (109, "never_returns", "timeout", "the trial took longer than 15 s"),
    (111, "fills_the_disk", "failed", "MB, and limits.trial_disk_mb allows 20 MB"),
    (111, "writes_one_large_file", "failed", "the trial's files grew past limits.trial_disk_mb, 20 MB"),
]
HARMLESS = [
    (105, "reports_a_step_twice"),
    (110, "prints_a_gigabyte"),
    (112, "forks_and_leaves"),
    (113, "tells_its_environment"),
    (114, "leaves_a_link"),
    (115, "prints_a_message_of_the_protocol"),
    (117, "--config=/etc/passwd"),
    (117, "-rf"),
    (117, "$(id); {params}"),
]
KINDS = ["good", *(kind for _, kind, *_ in FAIL), *(kind for _, kind in HARMLESS), "fine"]
ELSEWHERE = {
    116: "test_what_names_an_objective_is_never_interpreted",
    118: "tests/processes/test_kill.py::test_only_one_runner_works_on_a_study",
}
LATER = {104: "trials that are scripts, whose output is searched for a metric, come with scripts"}


class Ran(NamedTuple):
    """A study after its end."""

    workspace: Workspace
    outside: Path
    status: dict[str, Any]
    trials: dict[str, TrialSummary]

    def log(self, kind: str) -> bytes:
        """What the trial of a kind printed, as kept."""
        (job,) = [job for job in self.workspace.studies.read.jobs("study") if job.trial == self.trials[kind].number]
        return Path(job.log_path).read_bytes()


@pytest.fixture(scope="module")
def ran(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Ran]:
    """A study of every kind of trial, run by a detached runner of a server that has secrets."""
    folder = tmp_path_factory.mktemp("bad")
    outside = folder / "outside"
    outside.mkdir()
    (outside / "kept").touch()
    settings = Settings(
        workspace=folder / "workspace", parallel=2, trial_environment=("COVERAGE_*", "HF_HOME"), keep_trial_files=False
    )
    spec = callable_spec(
        objective="bad_objectives:one_of", python_path=[HERE], search_space={"kind": KINDS}, sampler="grid",
        n_trials=len(KINDS), parallel=2, limits=LIMITS, trial_timeout_s=15, payload={"folder": str(outside)},
        pruner="none",
    )  # fmt: skip
    with pytest.MonkeyPatch.context() as environment, Workspace(settings) as live:
        for name in SECRETS:
            environment.setenv(name, "canary")
        environment.setenv("HF_HOME", "/cache")
        live.studies.start(spec, "tester")
        eventually(lambda: live.studies.read.status("study").state in {"finished", "failed"}, within=120)
        trials = {str(trial.params["kind"]): trial for trial in live.studies.read.trials("study")}
        yield Ran(live, outside, ask(live, "get_automl_study_status", study_name="study"), trials)


def ask(workspace: Workspace, tool: str, **arguments: object) -> dict[str, Any]:
    """What a client is answered."""

    async def session() -> dict[str, Any]:
        server = build_server(workspace, caller=lambda: Principal("tester", Role.OPERATOR))
        async with Client(server) as client:
            result = await client.call_tool(tool, arguments)
            assert not result.is_error, result
            return result.structured_content or {}

    return anyio.run(session)


def test_every_row_is_covered_or_named() -> None:
    covered = {row for row, *_ in [*FAIL, *HARMLESS]} | set(ELSEWHERE) | set(LATER)

    assert covered == set(range(101, 119))


@pytest.mark.parametrize(("row", "kind", "cause", "error"), FAIL, ids=lambda value: str(value)[:30])
def test_a_bad_trial_fails_once_and_says_why(ran: Ran, row: int, kind: str, cause: str, error: str) -> None:
    trial = ran.trials[kind]

    assert trial.state == "failed"
    assert error in str(trial.error)
    assert trial.cause == {"out of memory": "oom"}.get(cause, cause)
    assert [job.attempt for job in ran.workspace.studies.read.jobs("study") if job.trial == trial.number] == [0]


@pytest.mark.parametrize("kind", ["good", "fine", *(kind for _, kind in HARMLESS)])
def test_a_trial_beside_them_completes(ran: Ran, kind: str) -> None:
    assert (ran.trials[kind].state, ran.trials[kind].error) == ("complete", None)


def test_the_study_finishes_and_a_client_is_told_what_failed(ran: Ran) -> None:
    causes = [cause for _, _, cause, _ in FAIL]

    assert (ran.status["state"], ran.status["n_complete"]) == ("finished", len(HARMLESS) + 2)
    assert ran.status["failures"] == {cause: causes.count(cause) for cause in set(causes)}
    assert ran.status["best_value"] == 0.5


def test_no_process_of_a_bad_trial_is_left(ran: Ran) -> None:
    assert eventually(lambda: not owned_processes(ran.workspace.settings.workspace / "studies"))
    assert eventually(lambda: ran.workspace.studies.read.status("study").tracking.synced)
    assert check_invariants(ran.workspace, settled=True) == []


def test_only_failed_trials_leave_files_and_no_more_than_they_may(ran: Ran) -> None:
    (files,) = (ran.workspace.settings.workspace / "studies").glob("*/files")
    left = {folder.name for folder in files.iterdir()}

    assert left == {f"{ran.trials[kind].number:05d}-0" for kind in ("fills_the_disk", "writes_one_large_file")}
    assert sum(file.stat().st_size for file in files.rglob("*")) < 2 * 60 * 10**6
    assert (ran.outside / "kept").exists(), "a link is removed, and not what it leads to"


def test_a_log_keeps_both_ends_of_a_gigabyte(ran: Ran) -> None:
    log = ran.log("prints_a_gigabyte")

    assert len(log) < 2.1 * 2**20
    assert f"{2**30 - 2 * 2**20:,} bytes left out".encode() in log


def test_what_looks_like_the_protocol_is_only_in_the_log(ran: Ran) -> None:
    assert ran.log("prints_a_message_of_the_protocol").startswith(b'{"jsonrpc": "2.0"')


def test_a_trial_finds_no_secret_of_the_server(ran: Ran) -> None:
    told = (ran.outside / "environment").read_text(encoding="utf-8")

    assert "canary" not in told
    assert {"PATH", "HOME", "TMPDIR", "TUNING_STUDY", "OMP_NUM_THREADS", "HF_HOME"} <= set(told.split())


def test_a_study_whose_trials_all_return_nan_fails_with_that_reason(settings: Settings) -> None:
    with Workspace(settings) as live:
        spec = callable_spec(
            objective="bad_objectives:returns_nan", python_path=[HERE], search_space={"x": [1, 2, 3]}, sampler="grid",
            n_trials=3, parallel=2,
        )  # fmt: skip
        live.studies.start(spec, "tester")
        eventually(lambda: live.studies.read.ended("study"))
        status = ask(live, "get_automl_study_status", study_name="study")

    assert (status["state"], status["stop_reason"], status["error"]) == (
        "failed",
        "all_failed",
        "objective returned nan",
    )


@pytest.mark.parametrize("objective", ["a b:f", "os;id:f", "$(id):f", "-m:f", "../../x:f", "module:f g"])
def test_what_names_an_objective_is_never_interpreted(objective: str) -> None:
    with pytest.raises(ValidationError, match="objective"):
        callable_spec().model_validate({**callable_spec().model_dump(), "objective": objective})


def test_a_folder_of_code_may_have_any_name(settings: Settings, tmp_path: Path) -> None:
    odd = tmp_path / "a b; $(touch pwned) -rf"
    odd.mkdir()
    (odd / "odd_objective.py").write_text("def f(trial):\n    return 0.5\n", encoding="utf-8")
    with Workspace(settings) as live:
        live.studies.start(
            callable_spec(objective="odd_objective:f", python_path=[str(odd)], n_trials=1, sampler="random"), "tester"
        )
        eventually(lambda: live.studies.read.ended("study"))
        assert live.studies.read.status("study").best_value == 0.5
    assert not [path for path in tmp_path.rglob("*") if re.fullmatch("pwned", path.name)]
