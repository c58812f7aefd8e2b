"""A bench to drive an executor on, as a runner would, and what else such tests look at."""

import time
from collections.abc import Callable
from itertools import count
from pathlib import Path

import psutil
from pydantic import JsonValue

from mcp_server.execution import Ended, Event, Executor, Reported, TrialTask

PATIENCE_S = 60.0
_job_numbers = count()


def eventually(holds: Callable[[], bool], patience_s: float = PATIENCE_S) -> bool:
    """Whether `holds` became true while we were looking."""
    deadline = time.monotonic() + patience_s
    while not holds():
        if time.monotonic() > deadline:
            return False
        time.sleep(0.005)
    return True


def running(*pids: int) -> list[int]:
    """Those of the processes that run; one that only waits to be collected by its parent does not."""
    alive = []
    for pid in pids:
        try:
            if psutil.Process(pid).status() != psutil.STATUS_ZOMBIE:
                alive.append(pid)
        except psutil.NoSuchProcess:
            continue
    return alive


class Bench:
    """Submits objectives of `mcp_server.testing.objectives` to an executor and collects what comes back."""

    def __init__(self, executor: Executor, folder: Path) -> None:
        self.executor = executor
        self.folder = folder
        self.files = folder / "files"
        self.pids_file = folder / "pids"
        self.go_file = folder / "go"

    def submit(
        self,
        objective: str,
        *,
        number: int = 0,
        timeout_s: float | None = None,
        memory_mb: float | None = None,
        disk_mb: float | None = None,
        environment: dict[str, str] | None = None,
        python_path: list[str] | None = None,
        token_prices: dict[str, list[float]] | None = None,
        **payload: JsonValue,
    ) -> TrialTask:
        """Start a trial; `objective` may also be `module:function`."""
        job_id = f"job-{next(_job_numbers)}"
        task = TrialTask(
            job_id=job_id,
            objective=objective if ":" in objective else f"mcp_server.testing.objectives:{objective}",
            number=number,
            params={"x": 0.25, "kernel": "rbf"},
            payload=payload,
            log_path=str(self.folder / "logs" / f"{number}.log"),
            timeout_s=timeout_s,
            memory_mb=memory_mb,
            disk_mb=disk_mb,
            folder=str(self.files / job_id),
            environment=environment or {},
            python_path=python_path or [],
            token_prices=token_prices or {},
        )
        self.executor.submit(task)
        return task

    def run(
        self,
        objective: str,
        *,
        number: int = 0,
        timeout_s: float | None = None,
        memory_mb: float | None = None,
        disk_mb: float | None = None,
        environment: dict[str, str] | None = None,
        python_path: list[str] | None = None,
        **payload: JsonValue,
    ) -> Ended:
        """How a trial ended, with every report answered by "go on"."""
        self.submit(
            objective,
            number=number,
            timeout_s=timeout_s,
            memory_mb=memory_mb,
            disk_mb=disk_mb,
            environment=environment,
            python_path=python_path,
            token_prices=None,
            **payload,
        )
        return self.end()

    def end(self) -> Ended:
        """The next end."""
        return self.ends(1)[0]

    def ends(self, expected: int) -> list[Ended]:
        """The next ends, with every report answered by "go on"."""
        ended: list[Ended] = []
        deadline = time.monotonic() + PATIENCE_S
        while len(ended) < expected and time.monotonic() < deadline:
            for event in self.executor.wait(1.0):
                if isinstance(event, Ended):
                    ended.append(event)
                elif isinstance(event, Reported):
                    self.executor.answer(event.job_id, prune=False)
        assert len(ended) == expected, f"{ended}"
        return ended

    def events(self, expected: int) -> list[Event]:
        """The next events, of trials that report nothing."""
        found: list[Event] = []
        deadline = time.monotonic() + PATIENCE_S
        while len(found) < expected and time.monotonic() < deadline:
            found += self.executor.wait(1.0)
        assert len(found) == expected, f"{found}"
        return found

    def report(self) -> Reported:
        """The next event, which has to be a report; it is not answered."""
        deadline = time.monotonic() + PATIENCE_S
        while time.monotonic() < deadline:
            for event in self.executor.wait(1.0):
                assert isinstance(event, Reported), f"{event}"
                return event
        raise AssertionError("no trial reported")

    def wait_for_go(self, *, timeout_s: float | None = None) -> tuple[TrialTask, int]:
        """A trial that runs until `go_file` exists, and its process id."""
        task = self.submit("wait_for_file", file=str(self.go_file), timeout_s=timeout_s)
        report = self.report()
        self.executor.answer(task.job_id, prune=False)
        return task, int(report.value)

    def start_processes(self, then: str, *, timeout_s: float | None = None) -> TrialTask:
        """A trial that starts a child and a daemon, whose ids are `pids` when this returns."""
        task = self.submit("start_processes", then=then, pids=str(self.pids_file), timeout_s=timeout_s)
        assert eventually(lambda: len(self.pids) == 2)  # noqa: PLR2004 - a child and a daemon
        return task

    @property
    def pids(self) -> list[int]:
        """The ids of what `start_processes` started."""
        return [int(pid) for pid in self.pids_file.read_text().split()] if self.pids_file.exists() else []
