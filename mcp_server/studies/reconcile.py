"""What a runner does first: bring rows, the sampler's memory and Optuna's file to where a study can go on.

Whatever the runner before it left when it was killed, at any point of its work or of this one, doing this again gives
the same result: each step is one transaction, and what is left to do is read from the rows.
"""

from collections import Counter
from dataclasses import dataclass

from mcp_server.execution import Ended
from mcp_server.studies.ledger import Ledger
from mcp_server.studies.memory import SamplerMemory
from mcp_server.studies.projection import Attempt


@dataclass(frozen=True)
class Found:
    """Where a study stands when its runner starts."""

    n_trials: int
    due: list[Attempt]  # trials whose attempt was lost: each runs again under its own number
    sources: Counter[str]  # trials by where they come from


def reconcile(ledger: Ledger, memory: SamplerMemory, *, deaths: int) -> Found:
    """Where the study stands, after what a killed runner left is repaired.

    Attempts that ran are lost, a trial that killed its worker `deaths` times has failed, the sampler knows every trial,
    and the tracking store is owed the study's run.
    """
    ledger.begin()
    known = ledger.trials.known()
    memory.rebuild(known, ledger.trials.spaces())
    due = []
    for attempt in ledger.trials.unfinished():
        if attempt.deaths < deaths:
            due.append(attempt)
            continue
        poison = Ended("", "lost", 0.0, error=f"it killed its worker {deaths} times")
        state, value = ledger.trials.close(attempt, poison, ledger.elapsed_s())
        memory.tell(attempt.number, state, value)
    return Found(len(known), due, Counter(row.source for row in known))
