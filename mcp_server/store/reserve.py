"""Room on the workspace's disk that is given back when the disk is full, so that an order or a reason still fits."""

import os
from pathlib import Path

RESERVE_BYTES = 4 * 2**20


class Reserve:
    """A file of four megabytes in the workspace `folder`, of no use but for its room."""

    def __init__(self, folder: Path) -> None:
        self.path = folder / "reserve"

    def keep(self) -> bool:
        """Whether the room is set aside, now or since earlier. Harmless when several processes do it at a time."""
        try:
            if self.path.exists() and self.path.stat().st_size >= RESERVE_BYTES:
                return True
            _fill(self.path)
        except OSError:
            self.free()
            return False
        return True

    def free(self) -> None:
        """Give the room to whoever needs it."""
        self.path.unlink(missing_ok=True)


def _fill(path: Path) -> None:
    file = os.open(path, os.O_WRONLY | os.O_CREAT, 0o600)
    try:
        if hasattr(os, "posix_fallocate"):
            os.posix_fallocate(file, 0, RESERVE_BYTES)
            return
        left = memoryview(bytes(RESERVE_BYTES))
        while left:
            left = left[os.write(file, left) :]
    finally:
        os.close(file)
