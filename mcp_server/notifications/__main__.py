"""`python -m mcp_server.notifications --workspace DIR`: the notifier of one workspace."""

import argparse
import sys

from mcp_server import logs
from mcp_server.notifications import queue
from mcp_server.notifications.notifier import FIRST_DELAY_S, NotifierLoop, notifier_lock
from mcp_server.settings import Settings
from mcp_server.store import open_store

LOCK_WAIT_S = 1.0  # somebody who only looks whether the lock is free holds it for a moment


def main(arguments: list[str] | None = None) -> int:
    """Exit status 0 also when another notifier is at work already."""
    parser = argparse.ArgumentParser(prog="python -m mcp_server.notifications", description=__doc__)
    parser.add_argument("--workspace", required=True, help="folder of the workspace")
    parser.add_argument("--first-delay-s", type=float, default=FIRST_DELAY_S, help="seconds before the second try")
    given = parser.parse_args(arguments)
    settings = Settings.load(workspace=given.workspace)
    logs.configure(settings.log_level)
    store, lock = open_store(settings), notifier_lock(settings.workspace)
    while lock.acquire(LOCK_WAIT_S):
        try:
            NotifierLoop(store, settings, first_delay_s=given.first_delay_s).run()
        finally:
            lock.release()
        with store.read() as connection:  # what came while this process went found the lock taken
            if not queue.has_owed(connection):
                break
    return 0


if __name__ == "__main__":
    sys.exit(main())
