"""What waits in a workspace, and who is at work."""

from collections.abc import Iterator

from sqlalchemy import func, select

from mcp_server.health.finding import Finding
from mcp_server.notifications import queue
from mcp_server.store.schema import outbox, studies
from mcp_server.studies.placement import runner_lock
from mcp_server.tracking.outbox import OPEN_STATES
from mcp_server.tracking.tracker import tracker_lock
from mcp_server.workspace import Workspace


def work(workspace: Workspace) -> Iterator[Finding]:
    """What was found about studies, records and processes."""
    if not workspace.store.present:
        yield Finding("ok", "No study yet.")
        return
    with workspace.store.read() as connection:
        known = connection.execute(select(studies.c.id, studies.c.name)).all()
        untold = queue.troubles(connection)
        pending = connection.scalar(select(func.count()).where(outbox.c.state.in_(OPEN_STATES))) or 0
    waiting = workspace.studies.unattended()
    running = [
        row.name
        for row in known
        if (lock := runner_lock(workspace.settings.workspace, row.id)).path.exists() and not lock.is_free()
    ]
    yield Finding(
        "ok", f"{len(known)} studies, {len(running)} with a runner{': ' if running else ''}{', '.join(running)}."
    )
    if waiting:
        text = f"Nobody runs {', '.join(waiting)}."
        yield Finding("warning", text, "Any server goes on with them, and tuning-mcp resume NAME too.")
    if pending:
        busy = "is being delivered" if not tracker_lock(workspace.settings).is_free() else "waits for a server"
        yield Finding("warning", f"{pending} records are not yet in MLflow: what is left {busy}.")
    else:
        yield Finding("ok", "Everything has arrived in MLflow.")
    for text in untold:
        yield Finding("warning", text, "Correct notify_* in the settings; --repair tries again what was given up.")
