"""`python -m tests.faults.orders --workspace DIR`: what a server writes when it starts, changes and extends a study."""

import argparse
from pathlib import Path

from mcp_server.settings import Settings
from mcp_server.workspace import Workspace
from tests.faults.conftest import faulty_spec

TRIALS = 2


def give(workspace: Workspace) -> None:
    """Ask for a study and change it twice, as a client does that repeats what it got no answer to."""
    status = workspace.studies.start(faulty_spec(), "tester", idempotency_key="once")
    workspace.studies.control("study", "set_parallel", "tester", parallel=1)
    if status.n_trials < TRIALS:
        workspace.studies.control("study", "extend", "tester", n_trials=TRIALS)


def main() -> None:
    """Give the orders and end; nobody carries them out."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--workspace", type=Path, required=True)
    with Workspace(Settings(workspace=parser.parse_args().workspace), launch=lambda *_: None) as workspace:
        give(workspace)


if __name__ == "__main__":
    main()
