"""What runs, what waits and what is done, for everybody who shares a workspace."""

from collections import Counter

from sqlalchemy import Connection, func, select

from mcp_server.settings import Settings
from mcp_server.store import Store
from mcp_server.store.schema import studies, trials
from mcp_server.studies.machine import Machine
from mcp_server.studies.summary import QueueStatus, Table
from mcp_server.studies.turns import PLACES, Contender, contenders

_STUDY_COLUMNS = ["study_name", "user", "priority", "state", "running", "queued", "waits_for"]
_USER_COLUMNS = ["user", "running", "queued", "finished"]


class QueueReader:
    """Reads the queue of one workspace from our own rows."""

    def __init__(self, store: Store, settings: Settings) -> None:
        self._store = store
        self._settings = settings

    def status(self, limit: int = 20) -> QueueStatus:
        """The queue, with at most `limit` studies and as many users."""
        machine = Machine.of(self._settings)
        with self._store.read() as connection:
            found = contenders(connection)
            finished = _finished(connection)
        running = sum(study.running for study in found)
        waiting = sum(study.waits_for is not None and not study.running for study in found)
        return QueueStatus(
            message=_sentence(found, running, waiting, machine.cores),
            slots=machine.cores,
            slots_busy=min(running, machine.cores),
            gpus=len(machine.gpus),
            gpus_busy=sum(study.running * study.gpus for study in found),
            studies=Table(columns=_STUDY_COLUMNS, rows=[_row(study) for study in found[:limit]]),
            users=_users(found, finished, limit),
        )


def _row(study: Contender) -> list[str | int | float | bool | None]:
    waits_for = PLACES.get(study.waits_for) or ("a runner" if study.state == "queued" else None)
    return [study.name, study.owner, study.priority, study.state, study.running, _queued(study), waits_for]


def _queued(study: Contender) -> int:
    return max(0, study.n_trials - study.begun) if study.state in {"queued", "running"} else 0


def _users(found: list[Contender], finished: Counter[str], limit: int) -> Table:
    running: Counter[str] = Counter()
    queued: Counter[str] = Counter()
    for study in found:
        running[study.owner] += study.running
        queued[study.owner] += _queued(study)
    users = sorted({*running, *finished}, key=lambda user: (-running[user], -queued[user], user))
    rows = [[user, running[user], queued[user], finished[user]] for user in users[:limit]]
    return Table(columns=_USER_COLUMNS, rows=rows)


def _finished(connection: Connection) -> Counter[str]:
    rows = connection.execute(
        select(studies.c.owner, func.count())
        .join(trials, trials.c.study_id == studies.c.id)
        .where(trials.c.state != "running")
        .group_by(studies.c.owner)
    )
    return Counter({row[0]: row[1] for row in rows})


def _sentence(found: list[Contender], running: int, waiting: int, slots: int) -> str:
    if not found:
        return f"Nothing runs and nothing waits; {slots} slots are free."
    text = f"{running} trials run on {slots} slots, in {sum(study.running > 0 for study in found)} studies"
    text += f"; {waiting} more wait for a place" if waiting else ""
    return f"{text}. {found[0].name} goes next."
