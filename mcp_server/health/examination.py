"""One look at everything: the installation, the folder, the databases, the work and the invariants."""

from mcp_server.errors import BackendUnavailableError
from mcp_server.health.databases import damage, databases
from mcp_server.health.finding import Finding
from mcp_server.health.folder import folder
from mcp_server.health.installation import installation
from mcp_server.health.invariants import check_invariants
from mcp_server.health.violation import PROMISES, Violation
from mcp_server.health.work import work
from mcp_server.workspace import Workspace


def examine(workspace: Workspace) -> tuple[list[Finding], list[Violation]]:
    """What was found, in the order in which it would be mended, and which invariants do not hold."""
    found = [*installation(), *folder(workspace.settings), *databases(workspace)]
    broken: list[Violation] = []
    try:
        broken = check_invariants(workspace)
        if damage(workspace.settings.workspace / "workspace.db") is None:
            found += work(workspace)
    except BackendUnavailableError as exc:
        found.append(Finding("problem", exc.message, exc.hint))
    else:
        if not broken:
            found.append(Finding("ok", f"All {len(PROMISES)} invariants hold."))
    return found, broken
