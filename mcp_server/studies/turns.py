"""Whose turn it is when studies want more places for trials than there are."""

import math
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType

from sqlalchemy import Connection, func, or_, select

from mcp_server.store import Resource
from mcp_server.store.schema import studies, trials
from mcp_server.studies.priority import LEVELS, Priority

PLACES: Mapping[Resource | None, str] = MappingProxyType({"cpu": "a free slot", "gpu": "a free GPU"})
"""What people call what a study waits for."""


@dataclass(frozen=True)
class Contender:
    """A study that runs, or that wants to, with the trials that it and its owner have running."""

    study_id: str
    name: str
    owner: str
    priority: Priority
    state: str
    gpus: int
    n_trials: int
    begun: int
    running: int
    owners_running: int
    waits_for: Resource | None
    waiting_since: float | None

    @property
    def rank(self) -> tuple[int, int, int, float]:
        """The least one goes next.

        A higher priority goes first, then the user with the fewest trials running, then the study with the fewest,
        then the one that has waited longest.
        """
        since = math.inf if self.waiting_since is None else self.waiting_since
        return (-LEVELS[self.priority], self.owners_running, self.running, since)


def contenders(connection: Connection) -> list[Contender]:
    """The studies that run or wait for a place, the next one first."""
    begun, running = func.count(trials.c.number), func.count(trials.c.number).filter(trials.c.state == "running")
    rows = connection.execute(
        select(studies, begun.label("begun"), running.label("running"))
        .outerjoin(trials, trials.c.study_id == studies.c.id)
        .where(or_(studies.c.state.in_(("queued", "running")), studies.c.waiting_since.is_not(None)))
        .group_by(studies.c.id)
    ).all()
    by_owner: Counter[str] = Counter()
    for row in rows:
        by_owner[row.owner] += row.running
    found = [
        Contender(
            study_id=row.id,
            name=row.name,
            owner=row.owner,
            priority=row.priority,
            state=row.state,
            gpus=row.spec["spec"].get("gpus", 0),
            n_trials=row.n_trials,
            begun=row.begun,
            running=row.running,
            owners_running=by_owner[row.owner],
            waits_for=row.waits_for,
            waiting_since=row.waiting_since,
        )
        for row in rows
    ]
    return sorted(found, key=lambda contender: contender.rank)
