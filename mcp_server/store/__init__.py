"""The workspace database: the truth about studies, trials and what tracking still owes."""

from mcp_server.store.database import Store
from mcp_server.store.locks import KernelLock

__all__ = ["KernelLock", "Store"]
