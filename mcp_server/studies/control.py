"""Orders to a study: what servers and the command line write, and its runner carries out."""

import math
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from sqlalchemy import Row, exists, insert, select, update

from mcp_server.errors import ConflictError, InvalidRequestError, StudyFinishedError
from mcp_server.settings import Settings
from mcp_server.store import Store
from mcp_server.store.schema import commands, studies
from mcp_server.studies.queries import find
from mcp_server.studies.spec import Action, StudySpec
from mcp_server.studies.states import requeue
from mcp_server.types import ENDED_STATES, JsonObject

Launch = Callable[[Path, str], object]


class Controller:
    """Gives orders to the studies of one workspace. Safe to share between threads."""

    def __init__(self, store: Store, settings: Settings, *, launch: Launch) -> None:
        self._store = store
        self._settings = settings
        self._launch = launch

    def give(
        self, name: str, action: Action, owner: str, *, n_trials: int | None = None, timeout_s: float | None = None
    ) -> None:
        """Tell a study to pause, resume, stop, extend or test its winner.

        Raises:
            StudyNotFoundError: If there is no such study.
            StudyFinishedError: If it has ended, for what only a running study can do.
            InvalidRequestError: If `n_trials` is missing or is not more than now.
        """
        with self._store.read() as connection:
            row = find(connection, name)
        if action != "extend" and (n_trials, timeout_s) != (None, None):
            raise InvalidRequestError(
                f"n_trials and timeout_s do nothing with {action}.", hint='Use action="extend"; it also resumes.'
            )
        match action:
            case "pause" | "stop":
                self._halt(row, action)
            case "resume":
                self._resume(row)
            case "extend":
                self.extend(row, n_trials, timeout_s)
            case "final_test":
                self._request_final_test(row, owner)

    def _halt(self, row: Row[Any], action: str) -> None:
        if row.state in ENDED_STATES:
            raise StudyFinishedError(
                f"Study {row.name!r} has ended already ({row.state}).", hint="Nothing is running; read its status."
            )
        with self._store.write(durable=True) as connection:
            connection.execute(update(studies).where(studies.c.id == row.id).values(desired=action))
            if action == "stop":  # the end of a paused study is a runner's to write, like any other
                state = connection.scalar(select(studies.c.state).where(studies.c.id == row.id))
                if state in {"paused", "waiting_for_approval"}:
                    requeue(connection, row.id)
        if row.state != "paused" or action == "stop":
            self._launch(self._settings.workspace, row.id)

    def _resume(self, row: Row[Any]) -> None:
        if row.state == "finished":
            raise StudyFinishedError(
                f"Study {row.name!r} has finished its {row.n_trials} trials.",
                hint='Use action="extend" with a larger n_trials.',
            )
        if row.state in {"queued", "running"} and row.desired == "run":
            raise ConflictError(f"Study {row.name!r} is {row.state} already.", hint="Read its status.")
        if row.timeout_s is not None and row.elapsed_s >= row.timeout_s:
            raise ConflictError(
                f"Study {row.name!r} has used its {row.timeout_s:g} s.",
                hint=f'Use action="extend" with a larger timeout_s, e.g. {2 * row.timeout_s:g}.',
            )
        self._run(row.id, {})

    def extend(
        self, row: Row[Any], n_trials: int | None, timeout_s: float | None, limits: JsonObject | None = None
    ) -> None:
        """Raise the totals of a study, and let it go on.

        Raises:
            InvalidRequestError: If nothing is raised.
        """
        more_time = n_trials is None and timeout_s is not None and timeout_s > (row.timeout_s or math.inf)
        if not (more_time or (n_trials is not None and n_trials > row.n_trials)):
            raise InvalidRequestError(
                f"extend needs n_trials above the present total of {row.n_trials}"
                + ("." if n_trials is None else f", got {n_trials}."),
                hint=f"n_trials is the new total, e.g. {row.n_trials * 2}.",
            )
        given: JsonObject = {"n_trials": n_trials, "timeout_s": timeout_s}
        values = {name: value for name, value in given.items() if value is not None}
        spec = {**row.spec, "spec": {**row.spec["spec"], **values, **(limits or {})}}
        self._run(row.id, {**values, "spec": spec})

    def _run(self, study_id: str, values: JsonObject) -> None:
        with self._store.write(durable=True) as connection:
            state = connection.scalar(select(studies.c.state).where(studies.c.id == study_id))
            connection.execute(update(studies).where(studies.c.id == study_id).values(desired="run", **values))
            if state not in {"queued", "running"}:
                requeue(connection, study_id)
        self._launch(self._settings.workspace, study_id)

    def _request_final_test(self, row: Row[Any], owner: str) -> None:
        if row.state not in ENDED_STATES and row.state != "paused":
            raise ConflictError(
                f"Study {row.name!r} is {row.state}: its winner is not known yet.",
                hint="Test it when the study has ended.",
            )
        if not row.dataset or not row.dataset["n_sealed"]:
            raise InvalidRequestError(
                f"Study {row.name!r} has no sealed test rows.", hint="Start one with test_size > 0, e.g. 0.2."
            )
        with self._store.write(durable=True) as connection:
            connection.execute(
                insert(commands).values(
                    study_id=row.id, action="final_test", arguments={}, owner=owner, created_at=time.time()
                )
            )
        self._launch(self._settings.workspace, row.id)

    def command_error(self, name: str) -> str | None:
        """Why the study's latest command failed, None when it did not."""
        with self._store.read() as connection:
            row = find(connection, name)
            return connection.scalar(
                select(commands.c.error).where(commands.c.study_id == row.id).order_by(commands.c.id.desc()).limit(1)
            )

    def busy(self, name: str) -> bool:
        """Whether the study has a command that is not done."""
        with self._store.read() as connection:
            row = find(connection, name)
            open_command = exists().where(commands.c.study_id == row.id, commands.c.done_at.is_(None))
            return bool(connection.scalar(select(open_command)))


def changed_limits(row: Row[Any], spec: StudySpec) -> JsonObject:
    """What `spec` sets of the limits that a runner reads when it starts."""
    names = {"trial_timeout_s", "parallel", "cost_budget_usd"} & spec.model_fields_set
    limits = {name: value for name in sorted(names) if (value := getattr(spec, name)) != row.spec["spec"].get(name)}
    if limits and row.state in {"queued", "running"}:
        raise ConflictError(
            f"{', '.join(limits)} cannot change while study {row.name!r} is {row.state}.", hint="Pause it first."
        )
    return limits
