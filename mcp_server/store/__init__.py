"""The workspace database: the truth about studies, trials and what tracking still owes."""

from mcp_server.store.database import Store
from mcp_server.store.locks import KernelLock
from mcp_server.store.patience import Patience, insistent
from mcp_server.store.slots import Resource, Slot, SlotPool

__all__ = ["KernelLock", "Patience", "Resource", "Slot", "SlotPool", "Store", "insistent"]
