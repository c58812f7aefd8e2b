"""The log of a trial: its first and its last megabyte, however much it prints, and the pipe by which they come.

A trial writes to a pipe and never to the file, so that a full disk fails no trial, and a limit on its files leaves its
log alone. The pipe is emptied by whoever started the trial: a thread of the trial could be starved by its own code.
"""

import logging
import os
import re
import sys
import time
from collections.abc import Iterator
from contextlib import suppress
from io import FileIO
from pathlib import Path
from typing import BinaryIO

KEPT_BYTES = 2**20
FLUSH_S = 0.25
_MARK_BYTES = 80
_READ_BYTES = 2**20
_REST_BYTES = 16 * 2**20
_MARK = re.compile(rb"\n--- ([0-9,]{1,40}) bytes left out here ---\n")
_F_SETPIPE_SZ = 1031
_log = logging.getLogger(__name__)


class LogLines:
    """The lines of a log while it grows, and while more and more of its middle is left out."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._at = 0  # in all that was ever printed

    def new_lines(self, *, last: bool) -> Iterator[str]:
        """The lines that came since the last call, oldest first; half a line only in the last call."""
        if not self._path.exists():
            return
        with self._path.open("rb") as file:
            file.seek(KEPT_BYTES)
            if mark := _MARK.match(file.read(_MARK_BYTES)):
                n_missing = int(mark[1].replace(b",", b""))
                yield from self._up_to_the_rest(file, n_missing)
                file.seek(self._at - n_missing + len(mark[0]))
            else:
                file.seek(self._at)
            for line in file:
                if not line.endswith(b"\n") and not last:
                    break
                self._at += len(line)
                yield _text(line)

    def _up_to_the_rest(self, file: BinaryIO, n_missing: int) -> Iterator[str]:
        if self._at < KEPT_BYTES:
            file.seek(self._at)
            head = file.read(KEPT_BYTES - self._at)
            self._at = KEPT_BYTES
            yield from map(_text, head.splitlines())
        if (gap := KEPT_BYTES + n_missing - self._at) > 0:
            self._at += gap
            yield f"--- {gap:,} bytes left out here ---"


def _text(line: bytes) -> str:
    return line.decode(errors="replace").rstrip("\r\n")


class TrialLog:
    """A log file that never grows beyond three times `KEPT_BYTES`, and is cut to twice as much when it is closed.

    While the file cannot be written, what would be in it waits in memory.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._head = bytearray()
        self._tail = bytearray()
        self._tail_at = 0  # position of `_tail` in all that came
        self._written = 0  # position up to which the file has everything, or says what it lacks
        self._size = -1
        self._trouble: OSError | None = None
        self.flush()

    def add(self, data: bytes) -> None:
        """Take what the trial printed."""
        room = KEPT_BYTES - len(self._head)
        self._head += data[:room]
        self._tail += data[room:]
        if not self._tail_at:
            self._tail_at = KEPT_BYTES if self._tail else 0
        if (surplus := len(self._tail) - KEPT_BYTES) > KEPT_BYTES:
            del self._tail[:surplus]
            self._tail_at += surplus

    def flush(self, *, last: bool = False) -> None:
        """Bring the file up to what came; when that is impossible, the next call tries again."""
        try:
            if self._size < 0:
                self._create()
            if last and self._total > 2 * KEPT_BYTES:
                self._rewrite()
            elif self._written < self._total:
                self._append() if self._appendable() else self._rewrite()
            self._trouble = None
        except OSError as exc:
            self._trouble = exc

    def close(self) -> None:
        """Bring the file up to what came and cut it to its size."""
        self.flush(last=True)
        if self._trouble is not None:
            _log.warning("the log %s could not be written: %s", self._path, self._trouble)

    @property
    def _total(self) -> int:
        return self._tail_at + len(self._tail) if self._tail_at else len(self._head)

    def _appendable(self) -> bool:
        in_memory = self._written >= self._tail_at or self._tail_at <= KEPT_BYTES
        return in_memory and self._size + self._total - self._written <= 3 * KEPT_BYTES

    def _create(self) -> None:
        self._path.parent.mkdir(parents=True, exist_ok=True)
        self._open(os.O_TRUNC).close()
        self._size = 0

    def _open(self, how: int) -> FileIO:
        # The trial may have put a link here.
        flags = os.O_WRONLY | os.O_CREAT | getattr(os, "O_NOFOLLOW", 0) | how
        return FileIO(os.open(self._path, flags, 0o666), "w")

    def _append(self) -> None:
        parts = [self._head[self._written :], self._tail[max(0, self._written - self._tail_at) :]]
        with self._open(os.O_APPEND) as file:
            for part in parts:
                while part:
                    n_bytes = file.write(part)
                    del part[:n_bytes]
                    self._written += n_bytes
                    self._size += n_bytes

    def _rewrite(self) -> None:
        rest = self._tail[-KEPT_BYTES:]
        mark = f"\n--- {self._total - len(rest) - KEPT_BYTES:,} bytes left out here ---\n".encode()
        draft = self._path.with_name(self._path.name + ".new")
        try:
            draft.write_bytes(self._head + mark + rest)
            draft.replace(self._path)  # at once, because somebody may be reading
        except OSError:
            draft.unlink(missing_ok=True)
            raise
        self._written = self._total
        self._size = KEPT_BYTES + len(mark) + len(rest)


class Output:
    """A pipe for what a trial prints, and the log that it ends in. It belongs to one thread."""

    def __init__(self, path: Path) -> None:
        self._ours, self.theirs = os.pipe()
        os.set_blocking(self._ours, False)
        _enlarge(self._ours)
        self._log_file = TrialLog(path)
        self._flushed = 0.0
        self._dirty = False

    @property
    def due(self) -> float:
        """When to call `flush`, on the monotonic clock."""
        return self._flushed + FLUSH_S if self._dirty else float("inf")

    def fileno(self) -> int:
        """The descriptor from which `take` reads; -1 when nothing more can come."""
        return self._ours

    def take(self) -> int:
        """Move what is in the pipe towards the log; how many bytes that were."""
        if self._ours < 0:
            return 0
        try:
            data = os.read(self._ours, _READ_BYTES)
        except BlockingIOError:
            return 0
        if data:
            self._log_file.add(data)
            self._dirty = True
        else:
            self._hang_up()
        return len(data)

    def flush(self) -> None:
        """Write what came, if that is due."""
        if time.monotonic() >= self.due:
            self._log_file.flush()
            self._flushed, self._dirty = time.monotonic(), False

    def finish(self) -> None:
        """Take what is left in the pipe, and write the log to its end."""
        left = _REST_BYTES
        while left > 0 and (n_bytes := self.take()):
            left -= n_bytes
        self._hang_up()
        self._log_file.close()

    def _hang_up(self) -> None:
        if self._ours >= 0:
            os.close(self._ours)
            self._ours = -1


def _enlarge(pipe: int) -> None:
    # A trial that prints much then waits less often for its turn.
    if sys.platform == "linux":
        import fcntl

        with suppress(OSError):  # this user has many large pipes already
            fcntl.fcntl(pipe, _F_SETPIPE_SZ, _READ_BYTES)
