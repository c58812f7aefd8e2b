"""Python imports this at its start where `tests.faults.clocks` wants a clock to jump."""

import os
import sys
import time

READS_BEFORE_JUMP = 5


class Clock:
    """The time of day, until it jumps."""

    def __init__(self, jump_s: float, proof: str) -> None:
        self._time = time.time
        self._jump_s = jump_s
        self._proof = proof
        self._reads = 0

    def now(self) -> float:
        self._reads += 1
        if self._reads == READS_BEFORE_JUMP:
            descriptor = os.open(self._proof, os.O_CREAT | os.O_WRONLY | os.O_APPEND)
            os.write(descriptor, b"%d\n" % os.getpid())
            os.close(descriptor)
        return self._time() + (self._jump_s if self._reads >= READS_BEFORE_JUMP else 0.0)


def install(clock: Clock) -> None:
    # Not `datetime`, whose type compiled libraries know by its size; the engine keeps its times by `time.time`.
    time.time = clock.now
    time.time_ns = lambda: int(clock.now() * 1e9)


if os.environ.get("FAULTY_CLOCK_OF") in sys.orig_argv:
    install(Clock(float(os.environ["FAULTY_CLOCK_S"]), os.environ["FAULTY_CLOCK_PROOF"]))
