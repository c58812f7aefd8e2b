"""What is right and wrong with an installation and a workspace, and how it is put right."""

from mcp_server.health.examination import examine
from mcp_server.health.finding import Finding
from mcp_server.health.invariants import check_invariants
from mcp_server.health.repair import Repair, repairs
from mcp_server.health.violation import PROMISES, Violation

__all__ = ["PROMISES", "Finding", "Repair", "Violation", "check_invariants", "examine", "repairs"]
