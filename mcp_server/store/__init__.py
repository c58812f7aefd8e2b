"""The workspace database: the truth about studies, trials and what tracking still owes."""

from mcp_server.store.database import Store
from mcp_server.store.locks import KernelLock
from mcp_server.store.opening import open_store
from mcp_server.store.patience import Patience, insistent
from mcp_server.store.reserve import Reserve
from mcp_server.store.slots import Resource, Slot, SlotPool
from mcp_server.store.writing import DISK_FULL

__all__ = [
    "DISK_FULL",
    "KernelLock",
    "Patience",
    "Reserve",
    "Resource",
    "Slot",
    "SlotPool",
    "Store",
    "insistent",
    "open_store",
]
