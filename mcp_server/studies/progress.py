"""How far a study is, in one line for whoever waits for it."""

from typing import Any, NamedTuple

from sqlalchemy import Connection, Row

from mcp_server.studies import events
from mcp_server.studies.digest import best_of, counts_of, over
from mcp_server.studies.turns import PLACES

_WAITING = {
    "queued": "a runner",
    "running": "the first trial to start",
}


class Progress(NamedTuple):
    """Trials that are over, of how many, and what else there is to say."""

    done: int
    total: int
    line: str


def progress_of(connection: Connection, row: Row[Any]) -> Progress:
    """The progress of the study in this row; when nothing of it runs, the line says what it waits for."""
    counts, _ = counts_of(connection, row.id)
    done = over(counts)
    best = best_of(connection, row)
    line = f"trial {done}/{row.n_trials}"
    if best is not None:
        line += f", best {row.metric} {best.value:.4g}"
    if not counts.get("running"):
        waits = (
            PLACES.get(row.waits_for)
            or events.waiting_for(connection, row.id)
            or (None if done and row.state == "running" else _WAITING.get(row.state))
        )
        line += f", waits for {waits}" if waits else ""
    return Progress(done, row.n_trials, line)
