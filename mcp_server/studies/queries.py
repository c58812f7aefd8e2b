"""Queries that readers, the service and the runner's ledger share."""

from typing import Any

from sqlalchemy import Connection, Row, Select, select

from mcp_server.errors import StudyNotFoundError
from mcp_server.store.schema import studies, trials
from mcp_server.studies.spec import did_you_mean
from mcp_server.types import Direction, shown


def find(connection: Connection, name: str) -> Row[Any]:
    """The row of the study called `name`.

    Raises:
        StudyNotFoundError: If there is none; near names are offered.
    """
    row = connection.execute(select(studies).where(studies.c.name == name)).one_or_none()
    if row is not None:
        return row
    known = list(connection.scalars(select(studies.c.name).order_by(studies.c.created_at.desc()).limit(50)))
    hint = did_you_mean(name, known).capitalize() if known else "There is no study yet: start_automl_study makes one."
    raise StudyNotFoundError(f"No study is called {shown(name)!r}.", hint=hint)


def best_first(study_id: str, direction: Direction) -> Select[Any]:
    """The complete trials of a study from best to worst; of equals the earlier one goes first."""
    order = trials.c.value.desc() if direction == "maximize" else trials.c.value.asc()
    complete = select(trials).where(trials.c.study_id == study_id, trials.c.state == "complete")
    return complete.order_by(order, trials.c.number)
