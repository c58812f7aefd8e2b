"""What is right and wrong with what is installed."""

import platform
import re
import sys
from collections.abc import Iterator
from importlib.metadata import PackageNotFoundError, metadata, requires, version
from importlib.util import find_spec
from pathlib import Path

from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet

from mcp_server.health.finding import Finding

DISTRIBUTION = "tuning-mcp"
DRIVER_FILE = Path("/proc/driver/nvidia/version")
# Source: https://docs.nvidia.com/deploy/cuda-compatibility/minor-version-compatibility.html
_OLDEST_DRIVERS = {"11": 450, "12": 525, "13": 580}


def installation(driver_file: Path = DRIVER_FILE) -> Iterator[Finding]:
    """What was found in this Python."""
    yield _python()
    yield from _required()
    yield from _extras()
    yield from _accelerator(driver_file)


def _python() -> Finding:
    wanted = SpecifierSet(metadata(DISTRIBUTION)["Requires-Python"])
    text = f"Python {platform.python_version()} in {sys.prefix}"
    if platform.python_version() in wanted:
        return Finding("ok", f"{text}.")
    return Finding("problem", f"{text} does not fit: needed is {wanted}.", "Install it with another Python.")


def _required() -> Iterator[Finding]:
    wrong = [text for needed in _requirements("") if (text := _misfit(needed)) is not None]
    if wrong:
        yield Finding(
            "problem", f"Packages do not fit: {'; '.join(wrong)}.", f"Run pip install --upgrade {DISTRIBUTION}."
        )
    else:
        yield Finding("ok", "All required packages are there in versions that fit.")


def _extras() -> Iterator[Finding]:
    for extra in metadata(DISTRIBUTION).get_all("Provides-Extra") or []:
        needed = [requirement for requirement in _requirements(extra) if requirement not in _requirements("")]
        present = [requirement for requirement in needed if find_spec(_module(requirement)) is not None]
        wrong = [text for requirement in needed if (text := _misfit(requirement)) is not None]
        install = f"pip install '{DISTRIBUTION}[{extra}]' brings it."
        if not present:
            yield Finding("ok", f"The extra {extra} is not installed.", install)
        elif wrong:
            yield Finding("warning", f"The extra {extra} does not fit: {'; '.join(wrong)}.", install)
        else:
            yield Finding("ok", f"The extra {extra} is installed.")


def _requirements(extra: str) -> list[Requirement]:
    found = [Requirement(line) for line in requires(DISTRIBUTION) or []]
    return [needed for needed in found if needed.marker is None or needed.marker.evaluate({"extra": extra})]


def _misfit(needed: Requirement) -> str | None:
    try:
        found = version(needed.name)
    except PackageNotFoundError:
        return f"{needed.name} is missing"
    return None if found in needed.specifier else f"{needed.name} is {found}, needed is {needed.specifier}"


def _module(needed: Requirement) -> str:
    return needed.name.replace("-", "_")


def _accelerator(driver_file: Path) -> Iterator[Finding]:
    """Whether torch was built for the GPU's driver, found without importing torch."""
    spec = find_spec("torch")
    if not driver_file.is_file() or spec is None or spec.origin is None:
        return
    driver = re.search(r"\s(\d+)\.[\d.]+\s", driver_file.read_text(encoding="utf-8", errors="replace"))
    built = re.search(
        r"^cuda\b[^=]*=\s*'(\d+)[\d.]*'", Path(spec.origin).with_name("version.py").read_text("utf-8"), re.M
    )
    if built is None:
        yield Finding(
            "warning",
            "There is an NVIDIA GPU, and the installed torch was built without CUDA: trials do not use it.",
            "Install torch from the index that https://pytorch.org names for your CUDA.",
        )
    elif driver is not None and int(driver[1]) < _OLDEST_DRIVERS.get(built[1], 0):
        yield Finding(
            "problem",
            f"torch was built for CUDA {built[1]}, which needs driver {_OLDEST_DRIVERS[built[1]]} or newer; "
            f"this one is {driver[1]}.",
            "Upgrade the driver, or install a torch for an older CUDA.",
        )
    else:
        yield Finding("ok", f"torch was built for CUDA {built[1]}, and the driver can run it.")
