"""`tuning-mcp logs`."""

import json
import time
from collections import deque
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path
from typing import Annotated, Protocol

import typer

from mcp_server.cli._control import Study, WorkspaceFolder
from mcp_server.errors import NotFoundError
from mcp_server.execution.trial_log import LogLines
from mcp_server.settings import Settings
from mcp_server.studies.summary import StudyEvent
from mcp_server.workspace import Workspace

POLL_S = 0.3
PAGE = 100


def logs(
    study: Study,
    *,
    workspace: WorkspaceFolder = None,
    trial: Annotated[int | None, typer.Option(min=0, help="A trial's own log, of every attempt.")] = None,
    events: Annotated[bool, typer.Option("--events", help="What was ordered and what happened.")] = False,
    follow: Annotated[bool, typer.Option("--follow", "-f", help="Go on until the study is at rest.")] = False,
    lines: Annotated[int, typer.Option(min=0, help="How many of the last lines; 0 means all.")] = 100,
) -> None:
    """Print what the runner of a study logged, or one trial, or the study's events."""
    with Workspace(Settings.load(workspace=workspace)) as opened:
        source = _source(opened, study, trial, events=events)
        for line in deque(source.new_lines(last=not follow), maxlen=lines or None):
            typer.echo(line)
        while follow:
            follow = not opened.studies.read.ended(study)  # asked first: what came before the end is still printed
            for line in source.new_lines(last=not follow):
                typer.echo(line)
            time.sleep(POLL_S if follow else 0)


class _Source(Protocol):
    def new_lines(self, *, last: bool) -> Iterator[str]:
        """The lines that came since the last call, oldest first; half a line only in the last call."""


def _source(workspace: Workspace, study: str, trial: int | None, *, events: bool) -> _Source:
    if events:
        return _Events(workspace, study, trial)
    if trial is not None:
        return _Attempts(workspace, study, trial)
    return LogLines(workspace.studies.runner_log(study))


class _Attempts:
    def __init__(self, workspace: Workspace, study: str, trial: int) -> None:
        self._workspace = workspace
        self._study = study
        self._trial = trial
        self._files: dict[int, LogLines] = {}

    def new_lines(self, *, last: bool) -> Iterator[str]:
        jobs = [job for job in self._workspace.studies.read.jobs(self._study) if job.trial == self._trial]
        if not jobs:
            raise NotFoundError(
                f"Study {self._study!r} has no trial {self._trial} yet.", hint="tuning-mcp status NAME --trials."
            )
        for job in jobs:
            if job.attempt not in self._files:
                yield f"--- trial {job.trial}, attempt {job.attempt}: {job.log_path}"
            yield from self._files.setdefault(job.attempt, LogLines(Path(job.log_path))).new_lines(last=last)


class _Events:
    def __init__(self, workspace: Workspace, study: str, trial: int | None) -> None:
        self._workspace = workspace
        self._study = study
        self._trial = trial
        self._last: StudyEvent | None = None

    def new_lines(self, *, last: bool) -> Iterator[str]:  # noqa: ARG002 - an event is never half written
        fresh = self._fresh()
        if fresh:
            self._last = fresh[0]
        for event in reversed(fresh):
            if self._trial is None or event.trial == self._trial:
                yield _told(event)

    def _fresh(self) -> list[StudyEvent]:
        """Events since the last one that was printed, newest first."""
        found: list[StudyEvent] = []
        cursor = None
        while True:
            page = self._workspace.studies.read.events(self._study, PAGE, cursor)
            for event in page.events:
                if event == self._last:
                    return found
                found.append(event)
            if (cursor := page.next_cursor) is None:
                return found


def _told(event: StudyEvent) -> str:
    at = datetime.fromtimestamp(event.at).astimezone().isoformat(sep=" ", timespec="seconds")
    where = "" if event.trial is None else f" trial {event.trial}"
    where += f".{event.attempt}" if event.attempt else ""
    detail = "" if not event.detail else f" {json.dumps(event.detail, ensure_ascii=False)}"
    return f"{at} {event.kind}{where} by {event.actor}{detail}"
