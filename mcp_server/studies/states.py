"""What a study, a trial and an attempt may become. Every state is written here, so that none is skipped or taken back.

```
study:   waiting for approval -> queued -> running -> paused | finished | stopped | failed -> queued (asked for again)
                                         running -> waiting for approval (it has cost what was approved)
trial:   running -> complete | pruned | failed
attempt: running -> completed | pruned | failed | timeout | oom | cancelled | lost
```

What a study should do (`desired`) is written by servers and the command line only, what it does (`state`) by its runner
only; the one exception is `queued`, by which an order calls for a runner.
"""

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any, cast, get_args

from sqlalchemy import ColumnElement, Connection, CursorResult, Table, select, update

from mcp_server.errors import StudyNotFoundError
from mcp_server.store.schema import attempts, studies, trials
from mcp_server.types import AttemptState, StudyState, TrialState

STUDY: Mapping[StudyState, frozenset[StudyState]] = MappingProxyType(
    {
        "waiting for approval": frozenset({"queued"}),
        "queued": frozenset({"running", "failed"}),  # failed: what cannot even be read
        "running": frozenset(
            {"running", "paused", "finished", "stopped", "failed", "waiting for approval"}
        ),  # running again: another runner
        "paused": frozenset({"queued"}),
        "finished": frozenset({"queued"}),
        "stopped": frozenset({"queued"}),
        "failed": frozenset({"queued"}),
    }
)
TRIAL: Mapping[TrialState, frozenset[TrialState]] = MappingProxyType(
    {
        "running": frozenset({"complete", "pruned", "failed"}),
        "complete": frozenset(),
        "pruned": frozenset(),
        "failed": frozenset(),
    }
)
ATTEMPT: Mapping[AttemptState, frozenset[AttemptState]] = MappingProxyType(
    {
        state: frozenset(get_args(AttemptState)) - {"running"} if state == "running" else frozenset()
        for state in get_args(AttemptState)
    }
)


class IllegalTransitionError(RuntimeError):
    """A state was to be written that cannot follow the present one: a bug."""


def move_study(connection: Connection, study_id: str, to: StudyState, **values: object) -> None:
    """Write a study's state, and `values` with it; for its runner.

    Raises:
        IllegalTransitionError: If the study cannot become this.
        StudyNotFoundError: If it was deleted meanwhile.
    """
    _move(connection, studies, studies.c.id == study_id, STUDY, to=to, values=values)


def requeue(connection: Connection, study_id: str, **values: object) -> None:
    """Call for a runner, and write `values`; for orders.

    Raises:
        IllegalTransitionError: If a runner has the study already.
        StudyNotFoundError: If it was deleted meanwhile.
    """
    move_study(connection, study_id, "queued", **values)


def end_trial(connection: Connection, study_id: str, number: int, to: TrialState, **values: object) -> None:
    """Write a trial's final state, and `values` with it.

    Raises:
        IllegalTransitionError: If it has one.
    """
    here = (trials.c.study_id == study_id) & (trials.c.number == number)
    _move(connection, trials, here, TRIAL, to=to, values=values)


def end_attempt(
    connection: Connection, study_id: str, number: int, attempt: int, to: AttemptState, **values: object
) -> None:
    """Write how an attempt ended, and `values` with it; what a lost one took stays on record.

    Raises:
        IllegalTransitionError: If it ended in another way.
    """
    here = (attempts.c.study_id == study_id) & (attempts.c.number == number) & (attempts.c.attempt == attempt)
    _move(connection, attempts, here, ATTEMPT, to=to, values=values, stays="lost")


def _move(
    connection: Connection,
    table: Table,
    here: ColumnElement[bool],
    allowed: Mapping[Any, frozenset[Any]],
    *,
    to: str,
    values: Mapping[str, object],
    stays: str | None = None,
) -> None:
    before = [state for state, after in allowed.items() if to in after]
    done = connection.execute(update(table).where(here, table.c.state.in_(before)).values(state=to, **values))
    if cast("CursorResult[Any]", done).rowcount:
        return
    present = connection.scalar(select(table.c.state).where(here))
    if present is None and table is studies:
        raise StudyNotFoundError("The study was deleted a moment ago.", hint="Ask list_automl_studies.")
    if present is None or present != stays:
        raise IllegalTransitionError(f"{table.name}: {present} cannot become {to}")
