"""What lies about in a workspace: invariants 7 and 10."""

import json
import time
from collections import defaultdict
from collections.abc import Iterable, Iterator
from pathlib import Path
from tempfile import gettempdir

from mcp_server.execution.run_folder import LINKS
from mcp_server.health.evidence import nobody_runs
from mcp_server.health.violation import Violation
from mcp_server.store import KernelLock
from mcp_server.workspace import Workspace

TRIAL_LOG_BYTES = 4 * 2**20
SERVICE_LOG_BYTES = 32 * 2**20
ABANDONED_S = 86_400.0
SHOWN = 3


def leftovers(workspace: Workspace, folders: Iterable[Path], known: set[str]) -> Iterator[Violation]:
    """I7: no draft of a writer that is gone, no folder without a study.

    `folders` were there before the ids of studies, `known`, were read.
    """
    root = workspace.settings.workspace
    drafts = [*(root / "data").glob(".draft-*"), *(root / "data" / "seen").glob("tmp*")]
    drafts += root.glob("studies/*/trials/*.log.new")
    links = [link for link in Path(gettempdir()).glob(f"{LINKS}*") if _leads_nowhere(link, root / "studies")]
    old = [draft for draft in drafts if _age_s(draft) > ABANDONED_S]
    for path in [*old, *links, *_half_databases(root)]:
        yield Violation("I7", f"{path} was left over", remedy="remove", subject=str(path))
    for folder in folders:
        if folder.name not in known and nobody_runs(workspace, folder.name):
            yield Violation("I7", f"{folder} has no study", remedy="remove", subject=str(folder))


def _leads_nowhere(link: Path, folder: Path) -> bool:
    """Whether `link` was for the temporary files of a trial in `folder` that is gone."""
    try:
        return link.readlink().is_relative_to(folder) and not link.exists()
    except OSError:
        return False


def _half_databases(root: Path) -> list[Path]:
    """Drafts of MLflow's database that nobody is writing."""
    lock = KernelLock(root / "mlflow.db.lock")
    if not any(root.glob("mlflow.db.new*")) or not lock.acquire():
        return []
    try:
        return sorted(root.glob("mlflow.db.new*"))
    finally:
        lock.release()


def study_folders(workspace: Workspace) -> list[Path]:
    """The folders of studies that are there."""
    return sorted(path for path in (workspace.settings.workspace / "studies").glob("*") if path.is_dir())


def long_logs(workspace: Workspace) -> Iterator[Violation]:
    """I7: no log is longer than its cap."""
    root = workspace.settings.workspace
    caps = {"studies/*/trials/*.log": TRIAL_LOG_BYTES}
    caps |= dict.fromkeys(("studies/*/*.log", "logs/*.log"), SERVICE_LOG_BYTES)
    for pattern, cap in caps.items():
        for path in sorted(root.glob(pattern)):
            if (size := path.stat().st_size) > cap:
                text = f"{path} has {size / 2**20:.1f} MiB, and {cap / 2**20:g} MiB are allowed"
                yield Violation("I7", text, remedy="trim", subject=str(path))


def audit_is_whole(path: Path) -> Iterator[Violation]:
    """I10: every line can be read, and no writer's numbers have a gap."""
    if not path.is_file():
        return
    numbers: dict[str, set[int]] = defaultdict(set)
    text = path.read_text(encoding="utf-8", errors="replace")
    for position, line in enumerate(text.splitlines(), 1):
        try:
            entry = json.loads(line)
            if "writer" in entry:  # lines of version 0.1 have no numbers
                numbers[entry["writer"]].add(entry["seq"])
        except (ValueError, TypeError, KeyError):
            yield Violation("I10", f"line {position} of {path.name} cannot be read")
    if text and not text.endswith("\n"):
        yield Violation("I10", f"the last line of {path.name} is cut off")
    for writer, seen in numbers.items():
        if missing := sorted(set(range(max(seen) + 1)) - seen):
            gone = ", ".join(map(str, missing[:SHOWN])) + (", ..." if len(missing) > SHOWN else "")
            yield Violation("I10", f"{len(missing)} lines of writer {writer} are missing from {path.name}: {gone}")


def _age_s(path: Path) -> float:
    try:
        return time.time() - path.stat().st_mtime
    except FileNotFoundError:
        return 0.0
