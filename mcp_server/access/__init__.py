"""Who may do what: roles, permissions, callers and the audit file."""

from mcp_server.access.roles import Permission, Principal, Role

__all__ = ["Permission", "Principal", "Role"]
