"""How long a study has run, on a clock that nobody sets."""

import time


class RunningClock:
    """The running seconds of a study over all its runners; time in which it only waits for a place does not count.

    >>> clock = RunningClock(before=60.0)
    >>> clock.stop()
    >>> clock.elapsed_s == clock.elapsed_s >= 60.0
    True
    """

    def __init__(self, before: float) -> None:
        self._before = before
        self._since: float | None = time.monotonic()

    @property
    def elapsed_s(self) -> float:
        """Running seconds up to now."""
        return self._before + (0.0 if self._since is None else time.monotonic() - self._since)

    def stop(self) -> None:
        """Nothing of the study runs from now on."""
        self._before, self._since = self.elapsed_s, None

    def go(self) -> None:
        """It runs, as it may have done already."""
        if self._since is None:
            self._since = time.monotonic()
