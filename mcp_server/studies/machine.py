"""What this machine can run at a time: the limit that `parallel` is checked against, and the places behind it."""

import os
import shutil
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from mcp_server.errors import InvalidRequestError
from mcp_server.settings import Settings
from mcp_server.store import SlotPool

PARALLEL_PER_CORE = 4
_DRIVER = Path("/proc/driver/nvidia/gpus")
_LISTING_LIMIT_S = 10.0


@dataclass(frozen=True)
class Machine:
    """The cores that trials may use, and the GPUs by the ids that CUDA knows them by."""

    cores: int
    gpus: tuple[str, ...] = ()

    @classmethod
    def of(cls, settings: Settings) -> "Machine":
        """What the settings allow, or else what there is."""
        return cls(capacity(settings), gpu_ids() if settings.gpus is None else settings.gpus)

    def parallel(self, gpus: int) -> int:
        """How many trials run at a time, by default, that need so many GPUs each.

        >>> Machine(8, ("0", "1")).parallel(gpus=1), Machine(8).parallel(gpus=0)
        (2, 8)
        """
        return min(self.cores, len(self.gpus) // gpus) if gpus else self.cores

    def threads(self, parallel: int) -> int:
        """How many threads each of so many trials at a time may use."""
        return max(1, self.cores // parallel)

    def check(self, parallel: int | None, *, gpus: int = 0, force: bool = False) -> None:
        """Refuse more trials at a time than fit; more than the cores may be forced, but not absurd numbers.

        Raises:
            InvalidRequestError: With the computed limit.
        """
        self._check_gpus(parallel, gpus)
        if parallel is None or parallel <= self.cores:
            return
        if parallel > self.cores * PARALLEL_PER_CORE:
            raise InvalidRequestError(
                f"parallel is {parallel}; on {self.cores} cores the limit is {self.cores * PARALLEL_PER_CORE}.",
                hint=f"Use 1 to {self.cores}.",
            )
        if not force:
            raise InvalidRequestError(
                f"parallel is {parallel}, but there are {self.cores} cores: trials would slow each other down.",
                hint=f"Use 1 to {self.cores}, or pass force=true.",
            )

    def _check_gpus(self, parallel: int | None, gpus: int) -> None:
        if gpus > len(self.gpus):
            raise InvalidRequestError(
                f"Each trial asks for {_counted(gpus)}; there {_are(len(self.gpus))}.",
                hint="Ask for fewer, or name those that were not found: --gpus or TUNING_GPUS.",
            )
        if gpus and parallel is not None and parallel > len(self.gpus) // gpus:
            raise InvalidRequestError(
                f"parallel is {parallel} with {_counted(gpus)} each, but there {_are(len(self.gpus))}.",
                hint=f"Use 1 to {len(self.gpus) // gpus}.",
            )

    def pool(self, workspace: Path) -> SlotPool:
        """The places for trials that all studies of the workspace share on this machine."""
        return SlotPool(workspace / "slots", self.cores, self.gpus)


def capacity(settings: Settings) -> int:
    """How many trials may run at a time by default: the cores this process may use."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    return settings.parallel or cores or 1


def gpu_ids(environment: Mapping[str, str] = os.environ, driver: Path = _DRIVER) -> tuple[str, ...]:
    """The NVIDIA GPUs that this process may use: those of CUDA_VISIBLE_DEVICES, or all.

    >>> gpu_ids({"CUDA_VISIBLE_DEVICES": "2, GPU-8a7f"})
    ('2', 'GPU-8a7f')
    >>> gpu_ids({"CUDA_VISIBLE_DEVICES": "1,-1,0"})  # CUDA stops at the first that is none
    ('1',)
    """
    visible = environment.get("CUDA_VISIBLE_DEVICES")
    if visible is None:
        return tuple(map(str, range(_count(driver))))
    ids = [part.strip() for part in visible.split(",")]
    return tuple(ids[: next((at for at, name in enumerate(ids) if name in {"", "-1"}), len(ids))])


def gpu_model(gpu: str, driver: Path = _DRIVER) -> str:
    """What the driver calls the model of a GPU, such as `NVIDIA H100 80GB HBM3`; nothing when it does not say."""
    for number, folder in enumerate(sorted(driver.iterdir()) if driver.is_dir() else ()):
        text = (folder / "information").read_text(encoding="utf-8") if (folder / "information").is_file() else ""
        facts = {key.strip(): value.strip() for key, _, value in (line.partition(":") for line in text.splitlines())}
        if gpu in {str(number), facts.get("GPU UUID", "")}:
            return facts.get("Model", "")
    return ""


def _count(driver: Path) -> int:
    if driver.is_dir():
        return len(list(driver.iterdir()))
    program = shutil.which("nvidia-smi")
    if program is None:
        return 0
    listing = [program, "--list-gpus"]
    try:
        done = subprocess.run(listing, capture_output=True, text=True, timeout=_LISTING_LIMIT_S, check=False)  # noqa: S603
    except (OSError, subprocess.TimeoutExpired):  # a driver that does not answer runs no trial either
        return 0
    return sum(line.startswith("GPU ") for line in done.stdout.splitlines())


def _counted(gpus: int) -> str:
    return f"{gpus} GPU{'' if gpus == 1 else 's'}"


def _are(gpus: int) -> str:
    return f"{'is' if gpus == 1 else 'are'} {_counted(gpus)}"
