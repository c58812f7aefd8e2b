"""Tables: one gate for paths, readers, profiles, preparation and splits."""

from mcp_server.data.gate import DataGate, OpenedFile
from mcp_server.data.limits import Limits
from mcp_server.data.profile import DatasetProfile
from mcp_server.data.spec import Column, DataSpec, PreparedData
from mcp_server.data.table import Table

__all__ = ["Column", "DataGate", "DataSpec", "DatasetProfile", "Limits", "OpenedFile", "PreparedData", "Table"]
