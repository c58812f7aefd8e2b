"""How much memory and disk a trial takes, together with all it started."""

import os
import sys
from contextlib import suppress
from pathlib import Path

import psutil

from mcp_server.processes import children

_KB = 1024
_OWN = ("RssAnon:", "RssShmem:", "VmSwap:")
_SHARE = ("Pss_Anon:", "Pss_Shmem:", "SwapPss:")


def memory_bytes(root: int, enough: int) -> int:
    """The memory of process `root` and its descendants in bytes, exact where it may be more than `enough`.

    Files that are only mapped do not count, because the kernel takes their pages back when it needs them. What
    processes share counts in parts: what a fork has not changed yet costs it next to nothing.
    """
    tree = _with_descendants(root)
    upper = sum(map(_upper_bytes, tree))
    return upper if upper <= enough else sum(map(_exact_bytes, tree))


def data_bytes() -> int:
    """What the kernel counts for RLIMIT_DATA of this process; 0 where it does not tell."""
    return _kilobytes("/proc/self/status", ("VmData:",)) or 0


def _with_descendants(root: int) -> list[int]:
    tree = [root]
    for pid in tree:
        tree += children(pid)
    return tree


def _upper_bytes(pid: int) -> int:
    own = _kilobytes(f"/proc/{pid}/status", _OWN) if sys.platform == "linux" else None
    return _resident_bytes(pid) if own is None else own


def _exact_bytes(pid: int) -> int:
    share = _kilobytes(f"/proc/{pid}/smaps_rollup", _SHARE)
    return _upper_bytes(pid) if share is None else share


def _kilobytes(path: str, names: tuple[str, ...]) -> int | None:
    """The sum of some lines in kB, in bytes; None where they are not to be had."""
    try:
        lines = Path(path).read_text(encoding="ascii").splitlines()
    except OSError:
        return None
    found = [int(line.split()[1]) for line in lines if line.startswith(names)]
    return sum(found) * _KB if found else None


def _resident_bytes(pid: int) -> int:
    with suppress(psutil.Error):
        used = psutil.Process(pid).memory_info()
        return int(getattr(used, "private", used.rss))  # private: Windows
    return 0


def disk_bytes(folder: str) -> int:
    """The bytes that the files in `folder` occupy; links are not followed."""
    total = 0
    with suppress(OSError), os.scandir(folder) as entries:  # the trial removes and forbids what it likes
        for entry in entries:
            with suppress(OSError):
                used = entry.stat(follow_symlinks=False)
                total += getattr(used, "st_blocks", -(-used.st_size // 512)) * 512
                if entry.is_dir(follow_symlinks=False):
                    total += disk_bytes(entry.path)
    return total
