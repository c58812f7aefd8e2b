"""A process whose clock jumps: `sitecustomize.py` in the folder `shifted` shifts what Python reads of the time of day.

Only one process does it, the one whose command line has the word in FAULTY_CLOCK_OF, and only after it has read the
clock a few times, so that the jump comes in the middle of its work. Monotonic clocks stay as they are, as they do when
somebody sets a machine's time.
"""

import os
from pathlib import Path

WORD = {
    "server": "serve",
    "runner": "mcp_server.studies",
    "worker": "mcp_server.execution.fork_server",
    "tracker": "mcp_server.tracking",
}
JUMPS_S = {"an hour ahead": 3600.0, "an hour back": -3600.0, "ten years ahead": 315_576_000.0}


def environment(role: str, jump_s: float, proof: Path) -> dict[str, str]:
    """What makes the clock of a role jump, for all processes; each that jumps says so in the file `proof`."""
    folder = str(Path(__file__).parent / "shifted")
    return {
        "PYTHONPATH": os.pathsep.join(filter(None, [folder, os.environ.get("PYTHONPATH")])),
        "FAULTY_CLOCK_OF": WORD[role],
        "TUNING_TRIAL_ENVIRONMENT": "COVERAGE_*,FAULTY_CLOCK_*",
        "FAULTY_CLOCK_S": str(jump_s),
        "FAULTY_CLOCK_PROOF": str(proof),
    }
