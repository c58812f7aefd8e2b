import os
import resource
import signal
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Literal, Self

import psutil
import pytest

from mcp_server.execution import Executor, local
from mcp_server.execution.launchers import ForkLauncher
from mcp_server.execution.local import LocalExecutor
from mcp_server.execution.run_folder import RunFolder
from mcp_server.testing.bench import Bench, eventually, running
from mcp_server.testing.executors import ProcessExecutorContract

pytestmark = pytest.mark.process

# A script without a `__main__` guard, which an import of it in a worker would run again.
OWNER = """
import sys
from pathlib import Path
from mcp_server.execution.local import LocalExecutor
from mcp_server.testing.bench import Bench

folder = Path(sys.argv[1])
with (folder / "imports").open("a") as file:
    file.write("main\\n")
executor = LocalExecutor(2, threads=1)
bench = Bench(executor, folder)
_, worker = bench.wait_for_go()
bench.start_processes("sleep")
(folder / "worker").write_text(str(worker))
(folder / "server").write_text(str(executor._launcher._process.pid))
while True:
    executor.wait(60.0)
"""


@pytest.mark.parametrize("method", ["fork", "spawn"])
def test_executors_that_name_their_jobs_alike_leave_each_other_alone(
    tmp_path: Path, method: Literal["fork", "spawn"]
) -> None:
    executors = [LocalExecutor(1, threads=1, start_method=method) for _ in range(2)]
    waiting, quick = (Bench(executor, tmp_path) for executor in executors)
    task, pid = waiting.wait_for_go()
    executors[1].submit(replace(task, objective="mcp_server.testing.objectives:noop"))
    assert quick.end().state == "completed"

    assert running(pid) == [pid]
    waiting.go_file.touch()
    assert waiting.end().state == "completed"
    for executor in executors:
        executor.close()


class TestSpawnedWorkers(ProcessExecutorContract):
    def build(self, slots: int) -> Executor:
        return LocalExecutor(slots, threads=3, inherit=["COVERAGE_*"], start_method="spawn")

    def test_output_reaches_the_log_even_when_the_trial_dies(
        self, bench: Bench, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.delenv("PYTHONUNBUFFERED", raising=False)
        task = bench.submit("say")
        assert bench.end().state == "failed"
        assert set(Path(task.log_path).read_text().splitlines()) == {"from stdout", "from stderr", "from below"}

    def test_secrets_of_the_server_are_not_in_its_environment(
        self, bench: Bench, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "42")
        executor = self.build(1)
        try:
            result = Bench(executor, bench.folder).run("environment", variable="AWS_SECRET_ACCESS_KEY").result
        finally:
            executor.close()
        assert result is not None
        assert result.value == -1

    def test_numeric_libraries_are_held_to_their_threads(self, bench: Bench) -> None:
        result = bench.run("environment", variable="OMP_NUM_THREADS").result
        assert result is not None
        assert result.value == 3

    def test_a_trial_that_takes_too_much_memory_is_killed(self, bench: Bench) -> None:
        ended = bench.run("mcp_server.testing.greedy:hold_memory", memory_mb=200, mb=400, children=1)
        assert ended.state == "oom"
        assert "allows 200 MB" in str(ended.error)

    def test_a_trial_that_takes_too_long_is_killed_with_its_children(self, bench: Bench) -> None:
        bench.start_processes("sleep", timeout_s=4.0)  # its imports count too
        assert bench.end().state == "timeout"
        assert eventually(lambda: running(*bench.pids) == [])


@pytest.fixture
def bench(tmp_path: Path) -> Iterator[Bench]:
    executor = LocalExecutor(2, threads=3, inherit=["COVERAGE_*"])
    yield Bench(executor, tmp_path)
    executor.close()


def server_pid(bench: Bench) -> int:
    assert isinstance(bench.executor, LocalExecutor)
    assert isinstance(bench.executor._launcher, ForkLauncher)
    return bench.executor._launcher._process.pid


class Owner:
    """A process that owns an executor with two running trials."""

    def __init__(self, folder: Path) -> None:
        script = folder / "owner.py"
        script.write_text(OWNER)
        environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])}
        self.process = subprocess.Popen([sys.executable, str(script), str(folder)], env=environment)
        self.folder = folder
        assert eventually(lambda: (folder / "server").exists() and (folder / "server").read_text() != "")
        self.worker, self.server = int((folder / "worker").read_text()), int((folder / "server").read_text())
        self.started = [int(pid) for pid in (folder / "pids").read_text().split()]

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.process.kill()
        self.process.wait()


def test_everything_dies_when_the_owner_is_killed(tmp_path: Path) -> None:
    with Owner(tmp_path) as owner:
        owner.process.kill()
        assert eventually(lambda: running(owner.server, owner.worker, *owner.started) == [])


@pytest.mark.parametrize("first", ["server", "workers"])
def test_the_folder_of_a_trial_goes_when_the_owner_is_killed(tmp_path: Path, first: str) -> None:
    with Owner(tmp_path) as owner:
        folders = [RunFolder(path) for path in (tmp_path / "files").iterdir()]
        assert len(folders) == 2
        if first == "workers":
            os.kill(owner.server, signal.SIGSTOP)
        owner.process.kill()
        assert eventually(lambda: running(owner.worker) == [])
        os.kill(owner.server, signal.SIGCONT)
        assert eventually(lambda: running(owner.server) == [])
        assert not any(folder.path.exists() for folder in folders)
        assert not any(folder.link is not None and folder.link.is_symlink() for folder in folders)


def test_workers_die_when_the_owner_and_the_fork_server_are_killed(tmp_path: Path) -> None:
    with Owner(tmp_path) as owner:
        owner.process.send_signal(signal.SIGSTOP)
        os.kill(owner.server, signal.SIGKILL)
        owner.process.kill()
        assert eventually(lambda: running(owner.server, owner.worker) == [])


def test_the_main_module_of_the_owner_is_not_imported_again(tmp_path: Path) -> None:
    with Owner(tmp_path):
        assert (tmp_path / "imports").read_text() == "main\n"


def test_trials_are_lost_with_the_fork_server_and_the_next_one_runs(bench: Bench) -> None:
    task, worker = bench.wait_for_go()
    os.kill(server_pid(bench), signal.SIGKILL)
    ended = bench.end()
    assert (ended.job_id, ended.state) == (task.job_id, "lost")
    assert eventually(lambda: running(worker) == [])
    assert bench.run("noop").state == "completed"


def test_a_trial_is_lost_alone_when_the_system_has_no_more_for_it(bench: Bench) -> None:
    held, _ = bench.wait_for_go()
    limits = resource.prlimit(server_pid(bench), resource.RLIMIT_NOFILE)
    for allowed in range(4, 12):  # from no descriptor for its pipe to one too few for its log
        resource.prlimit(server_pid(bench), resource.RLIMIT_NOFILE, (allowed, limits[1]))
        ended = bench.run("noop")
        if ended.state == "completed":
            break
        assert (ended.state, ended.error) == (
            "lost", "no process could be started for the trial: [Errno 24] Too many open files",
        )  # fmt: skip
    resource.prlimit(server_pid(bench), resource.RLIMIT_NOFILE, limits)
    assert allowed > 5
    bench.go_file.touch()
    ended = bench.end()
    assert (ended.job_id, ended.state) == (held.job_id, "completed")


def test_the_place_of_a_segmentation_fault_is_in_the_log(bench: Bench) -> None:
    task = bench.submit("segfault")
    assert bench.end().state == "failed"
    text = Path(task.log_path).read_text()
    assert "Segmentation fault" in text
    assert "in segfault" in text


def test_a_process_that_keeps_forking_away_is_caught(bench: Bench) -> None:
    assert bench.run("run_away").state == "completed"
    assert psutil.Process(server_pid(bench)).children(recursive=True) == []


def test_a_trial_that_will_not_exit_is_ended_with_its_result(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(local, "EXIT_GRACE_S", 0.1)
    ended = bench.run("linger")
    assert ended.state == "completed"
    assert ended.result is not None


def test_numeric_libraries_are_held_to_their_threads_even_when_preloaded(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "threads_at_import.py").write_text(
        "import os\nTHREADS = float(os.environ['OMP_NUM_THREADS'])\ndef threads(trial):\n    return THREADS\n"
    )
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    executor = LocalExecutor(1, threads=3, preload=["threads_at_import"])
    try:
        result = Bench(executor, tmp_path).run("threads_at_import:threads").result
    finally:
        executor.close()
    assert result is not None
    assert result.value == 3


def test_a_module_that_cannot_be_preloaded_is_named_and_trials_run(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    executor = LocalExecutor(1, threads=1, preload=["no_such_module"])
    try:
        assert Bench(executor, tmp_path).run("noop").state == "completed"
    finally:
        executor.close()
    assert "cannot preload no_such_module" in capfd.readouterr().err


def test_a_module_that_kills_the_fork_server_costs_one_attempt(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "deadly_import.py").write_text("import os\nos._exit(1)\n")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    executor = LocalExecutor(1, threads=1, preload=["deadly_import"])
    bench = Bench(executor, tmp_path)
    try:
        assert bench.run("noop").state == "lost"
        assert bench.run("noop").state == "completed"
    finally:
        executor.close()


def test_importing_the_package_loads_no_process_machinery() -> None:
    code = "import sys, mcp_server.execution; print('multiprocessing' in sys.modules, 'subprocess' in sys.modules)"
    unmeasured = {name: value for name, value in os.environ.items() if not name.startswith("COVERAGE")}
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, env=unmeasured)
    assert done.stdout.split() == ["False", "False"]
