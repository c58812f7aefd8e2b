"""Places for trials, shared by all studies of a workspace: a kernel file lock each, so that any death frees it."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from mcp_server.store.locks import KernelLock

Resource = Literal["cpu", "gpu"]


@dataclass(frozen=True)
class Slot:
    """A place for one trial: a core's share of this machine, and GPUs that nobody else of the workspace uses."""

    gpus: tuple[str, ...]
    locks: tuple[KernelLock, ...]

    def release(self) -> None:
        """Leave the place to others."""
        for lock in self.locks:
            lock.release()


class SlotPool:
    """The `size` places of a workspace and its GPUs, by their ids.

    Places are taken core first, then GPUs, without ever waiting for one with another in hand: nobody can wait for
    somebody who waits.
    """

    def __init__(self, folder: Path, size: int, gpus: Sequence[str] = ()) -> None:
        self._folder = folder
        self.size = size
        self.gpus = tuple(gpus)

    def take(self, gpus: int = 0) -> Slot | Resource:
        """A place with so many GPUs, or what there is not enough of right now."""
        cpu = self._first("cpu", [str(number) for number in range(self.size)], 1)
        if not cpu:
            return "cpu"
        devices = self._first("gpu", self.gpus, gpus)
        slot = Slot(tuple(devices), (*cpu.values(), *devices.values()))
        if len(devices) < gpus:
            slot.release()
            return "gpu"
        return slot

    def _first(self, kind: Resource, names: Sequence[str], wanted: int) -> dict[str, KernelLock]:
        got: dict[str, KernelLock] = {}
        for name in names:
            if len(got) >= wanted:
                break
            lock = KernelLock(self._folder / f"{kind}-{name}.lock")
            if lock.acquire():
                got[name] = lock
        return got
