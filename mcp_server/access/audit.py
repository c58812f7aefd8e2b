"""Who called what, and how it ended: one line per call that nobody can take back through the server."""

import hashlib
import json
import os
import threading
import uuid
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path

from mcp_server.access.roles import Principal


class Audit:
    """The file `audit.jsonl` of a workspace, readable by its owner only. Safe to share between threads and processes.

    A line is written by one `write(2)` on a file opened with O_APPEND, so lines of several servers do not mix. It holds
    a digest of the arguments and not the arguments, because those may be private. Lines of one writer are numbered from
    0, so that a line that was taken out leaves a gap.
    """

    def __init__(self, workspace: Path) -> None:
        self.path = workspace / "audit.jsonl"
        self._file: int | None = None
        self._opening = threading.Lock()
        self._writing = threading.Lock()
        self._writer = uuid.uuid4().hex[:12]
        self._lines = 0

    def record(
        self,
        *,
        principal: Principal | None,
        tool: str,
        arguments: Mapping[str, object],
        outcome: str,
        seconds: float,
        request_id: str | None,
    ) -> None:
        """Append one call.

        Raises:
            OSError: If the file cannot be written.
        """
        line = {
            "ts": datetime.now(UTC).isoformat(timespec="milliseconds"),
            "principal": principal.name if principal else None,
            "role": principal.role.value if principal else None,
            "tool": tool,
            "arguments_sha256": digest(arguments),
            "outcome": outcome,
            "ms": round(seconds * 1000, 1),
            "request_id": request_id,
        }
        with self._writing:
            line |= {"writer": self._writer, "seq": self._lines}
            os.write(self._opened(), json.dumps(line, separators=(",", ":")).encode() + b"\n")
            self._lines += 1

    def close(self) -> None:
        """Close the file; the next record opens it again."""
        with self._opening:
            if self._file is not None:
                os.close(self._file)
                self._file = None

    def _opened(self) -> int:
        with self._opening:
            if self._file is None:
                self.path.parent.mkdir(parents=True, exist_ok=True)
                self._file = os.open(self.path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
            return self._file


def digest(arguments: Mapping[str, object]) -> str:
    """The sha256 of the arguments, whatever order their keys came in.

    >>> digest({"a": 1, "b": 2}) == digest({"b": 2, "a": 1})
    True
    """
    text = json.dumps(arguments, sort_keys=True, separators=(",", ":"), default=repr)
    return hashlib.sha256(text.encode()).hexdigest()
