"""kill -9 at random: of a server, a runner, the process that workers are forked from, a worker or the tracker."""

import os
import random
import subprocess
import sys
from collections import Counter
from contextlib import suppress
from pathlib import Path

import psutil
from sqlalchemy import select

from mcp_server.errors import WorkspaceError
from mcp_server.processes import owned_processes
from mcp_server.store.schema import attempts
from mcp_server.studies.trial_ledger import RUNNER_DIED
from mcp_server.tracking.tracker import ensure_tracker
from mcp_server.workspace import Workspace
from tests.conftest import eventually
from tests.faults.conftest import HERE, at_work, faulty_spec

ROLES = ("server", "runner", "fork server", "worker", "tracker")
LONGEST_S = 0.3
PATIENCE_S = 180.0
_LOST = select(attempts.c.number).where((attempts.c.state == "lost") & (attempts.c.error != RUNNER_DIED))


class Chaos:
    """A study of `n_trials` that goes on by one part after each kill, so that every kill finds it running."""

    def __init__(self, workspace: Workspace, folder: Path, *, seed: int, rounds: int, n_trials: int) -> None:
        self.workspace = workspace
        self.kills: list[str] = []
        self.seed = seed
        self._random = random.Random(seed)  # noqa: S311 - no secret depends on it
        self._rounds = rounds
        self._n_trials = n_trials
        self._folder = folder / "chaos"
        self._folder.mkdir()
        self._allow(1)
        self._server: subprocess.Popen[bytes] | None = None
        payload = {"folder": str(self._folder)}
        spec = faulty_spec("held_back", n_trials=n_trials, parallel=4, payload=payload)
        workspace.studies.start(spec, "tester")

    def run(self) -> None:
        """All rounds; then the study may end."""
        for number in range(self._rounds):
            self._kill_one()
            self._allow(self._n_trials * (number + 1) // (self._rounds + 1))
        self._allow(self._n_trials)
        eventually(
            lambda: self._tended() and self.workspace.studies.read.status("study").state == "finished",
            within=PATIENCE_S,
        )
        eventually(
            lambda: self._tended() and self.workspace.studies.read.status("study").tracking.synced, within=PATIENCE_S
        )

    def close(self) -> None:
        """End the server."""
        if self._server is not None:
            self._server.kill()
            self._server.communicate()

    def _allow(self, trials: int) -> None:
        draft = self._folder / "limit.draft"
        draft.write_text(str(trials), encoding="utf-8")
        draft.replace(self._folder / "limit")

    def _tended(self) -> bool:
        """What any server of the workspace does every two seconds."""
        with suppress(WorkspaceError):
            self.workspace.studies.revive()
            ensure_tracker(self.workspace.store, self.workspace.settings)
        return True

    def _kill_one(self) -> None:
        role = self._random.choice(ROLES)
        moment = self._random.uniform(0.0, LONGEST_S)
        while True:
            victim = eventually(lambda: self._tended() and self._found(role), within=PATIENCE_S)
            assert isinstance(victim, psutil.Process)
            with suppress(psutil.TimeoutExpired):
                victim.wait(moment)
            with suppress(psutil.NoSuchProcess):
                if victim.status() != psutil.STATUS_ZOMBIE:
                    victim.kill()
                    break
        self.kills.append(role)
        eventually(lambda: not victim.is_running() or victim.status() == psutil.STATUS_ZOMBIE)

    def _found(self, role: str) -> psutil.Process | None:
        if role == "server":
            return self._live_server()
        if role == "tracker":
            return self._module("mcp_server.tracking")
        if (runner := self._module("mcp_server.studies")) is None:
            return None
        if role == "runner":
            return runner
        with suppress(psutil.Error):
            for server in runner.children():
                if role == "fork server":
                    return server if not self._dead_once() & self._running().keys() else runner
                return self._worker(server)
        return None

    def _worker(self, server: psutil.Process) -> psutil.Process | None:
        """A worker whose trial has not lost one yet: the second loss would rightly fail it."""
        running = self._running()
        fresh = {running[number] for number in running.keys() - self._dead_once()}
        return self._random.choice(found) if (found := [p for p in server.children() if p.pid in fresh]) else None

    def _running(self) -> dict[int, int]:
        """The trials that run, with the process of each."""
        named = [file.name.split("-")[1:] for file in self._folder.glob("pid-*")]
        return {int(number): int(pid) for number, pid in named if psutil.pid_exists(int(pid))}

    def _dead_once(self) -> set[int]:
        with self.workspace.store.read() as connection:
            return set(connection.scalars(_LOST))

    def _module(self, name: str) -> psutil.Process | None:
        for process in at_work(self.workspace.settings.workspace):
            with suppress(psutil.Error):
                if name in process.cmdline() and process.status() != psutil.STATUS_ZOMBIE:
                    return process
        return None

    def _live_server(self) -> psutil.Process:
        if self._server is None or self._server.poll() is not None:
            self.close()
            command = [sys.executable, "-m", "mcp_server", "serve", "--workspace"]
            self._server = subprocess.Popen(
                [*command, str(self.workspace.settings.workspace)],
                stdin=subprocess.PIPE,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
                env={**os.environ, "PYTHONPATH": HERE},
            )
        return psutil.Process(self._server.pid)

    def poisoned(self) -> set[int]:
        """The trials that lost two workers though their runner lived, which fail by rule."""
        with self.workspace.store.read() as connection:
            return {number for number, times in Counter(connection.scalars(_LOST)).items() if times > 1}

    def left_over(self) -> list[str]:
        """What of the study still runs."""
        return [owned.command for owned in owned_processes(self.workspace.settings.workspace / "studies")]
