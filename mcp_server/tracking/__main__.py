"""`python -m mcp_server.tracking --workspace DIR`: the tracker of one workspace."""

import argparse
import os
import sys

from mcp_server import logs
from mcp_server.settings import Settings
from mcp_server.store import open_store
from mcp_server.tracking import environment
from mcp_server.tracking.tracker import DATABASE_VARIABLE, IDLE_S, TrackerLoop, tracker_lock

LOCK_WAIT_S = 1.0  # somebody who only looks whether the lock is free holds it for a moment
NICENESS = 5


def main(arguments: list[str] | None = None) -> int:
    """Exit status 0 also when another tracker is at work already."""
    parser = argparse.ArgumentParser(prog="python -m mcp_server.tracking", description=__doc__)
    parser.add_argument("--workspace", required=True, help="folder of the workspace")
    parser.add_argument("--tracking-uri", default=None, help="MLflow store, when the settings do not name it")
    parser.add_argument("--idle-s", type=float, default=IDLE_S, help="seconds without work before it ends")
    given = parser.parse_args(arguments)
    settings = Settings.load(workspace=given.workspace, tracking_uri=given.tracking_uri)
    logs.configure(settings.log_level)
    environment.prepare()
    os.environ.pop(DATABASE_VARIABLE, None)  # no concern of MLflow or what it starts
    lock = tracker_lock(settings)
    if not lock.acquire(LOCK_WAIT_S):
        return 0
    os.nice(NICENESS)  # trials come first
    TrackerLoop(open_store(settings), settings, idle_s=given.idle_s).run()
    return 0


if __name__ == "__main__":
    sys.exit(main())
