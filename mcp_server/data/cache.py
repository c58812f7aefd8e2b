"""Prepared data on disk: folders named by what is in them, and notes on which file led to which folder."""

import hashlib
import json
import os
import shutil
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from pydantic import JsonValue

from mcp_server.data.spec import PreparedData

MANIFEST = "prepared.json"
SEALED = "sealed"
_SETTLED_NS = 2_000_000_000  # file times may be this coarse: a younger file can change without a new time
_ABANDONED_S = 86_400.0


def key_of(*parts: JsonValue) -> str:
    """A name for exactly these values."""
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()


class PreparedCache:
    """Folders of prepared data that any number of processes share; a folder appears complete or not at all."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._notes = folder / "seen"

    def load(self, key: str) -> PreparedData | None:
        """What was stored under `key`."""
        manifest = self._folder / key / MANIFEST
        if not manifest.is_file():
            return None
        prepared = PreparedData.model_validate_json(manifest.read_bytes())
        return prepared.model_copy(update={"folder": str(manifest.parent)})

    def store(self, key: str, write: Callable[[Path], PreparedData]) -> PreparedData:
        """What `write` put into a fresh folder, now under `key`; the first of several writers wins."""
        self._folder.mkdir(parents=True, exist_ok=True)
        self._sweep()
        draft = Path(tempfile.mkdtemp(prefix=".draft-", dir=self._folder))
        target = self._folder / key
        try:
            prepared = write(draft).model_copy(update={"folder": str(target)})
            (draft / MANIFEST).write_text(prepared.model_dump_json(indent=1), encoding="utf-8")
            if not target.exists():
                os.replace(draft, target)  # noqa: PTH105 - Path.replace is the same call
        except OSError:
            if self.load(key) is None:  # else another process was faster, with the same content
                raise
        finally:
            shutil.rmtree(draft, ignore_errors=True)
        return prepared

    def seen(self, request: str) -> PreparedData | None:
        """What the same request on the same unchanged file led to."""
        note = self._notes / f"{request}.json"
        if not note.is_file():
            return None
        return self.load(json.loads(note.read_bytes())["key"])

    def remember(self, request: str, key: str, mtime_ns: int) -> None:
        """Let `seen` find it, unless the file is so young that it may still change unnoticed."""
        if time.time_ns() - mtime_ns < _SETTLED_NS:
            return
        self._notes.mkdir(parents=True, exist_ok=True)
        descriptor, draft = tempfile.mkstemp(dir=self._notes)
        with os.fdopen(descriptor, "w", encoding="utf-8") as file:
            json.dump({"key": key}, file)
        os.replace(draft, self._notes / f"{request}.json")  # noqa: PTH105 - as above

    def _sweep(self) -> None:
        """Remove what writers that were killed left behind."""
        for draft in self._folder.glob(".draft-*"):
            if time.time() - draft.stat().st_mtime > _ABANDONED_S:
                shutil.rmtree(draft, ignore_errors=True)
