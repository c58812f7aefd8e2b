"""Ownership by kernel file lock: free the instant its holder dies, untouched by clocks, sleep and reused pids."""

from pathlib import Path
from types import TracebackType
from typing import Self

from filelock import FileLock, Timeout


class KernelLock:
    """An exclusive lock on a file, held until `release`, the end of a `with`, or the death of the process."""

    def __init__(self, path: Path) -> None:
        self.path = path
        # One KernelLock object is one owner, also within a process: hence no singleton and no thread-local counter.
        self._lock = FileLock(path, thread_local=False, is_singleton=False, mode=0o600)

    def acquire(self, timeout_s: float = 0.0) -> bool:
        """Whether the lock was got within `timeout_s`."""
        self.path.parent.mkdir(parents=True, exist_ok=True)
        try:
            self._lock.acquire(timeout=timeout_s, poll_interval=0.02)
        except Timeout:
            return False
        return True

    def release(self) -> None:
        """Let the next owner in; harmless when the lock is not held."""
        self._lock.release(force=True)

    def is_free(self) -> bool:
        """Whether nobody held the lock a moment ago."""
        free = self.acquire()
        if free:
            self.release()
        return free

    def __enter__(self) -> Self:
        """Wait for the lock, at most a minute.

        Raises:
            TimeoutError: If another process keeps it.
        """
        if not self.acquire(60.0):
            raise TimeoutError(f"{self.path} is held by another process")
        return self

    def __exit__(
        self, kind: type[BaseException] | None, exc: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.release()
