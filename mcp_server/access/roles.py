"""Roles and the permissions they include; a permission that no role lists is granted to nobody."""

from dataclasses import dataclass
from enum import StrEnum

from mcp_server.errors import PermissionDeniedError


class Permission(StrEnum):
    """What a tool takes; every tool declares exactly one."""

    READ = "read"
    PLAN = "plan"
    TUNE = "tune"
    APPROVE = "approve"
    DELETE = "delete"
    ADMIN = "admin"


class Role(StrEnum):
    """What a caller is, from least to most allowed."""

    VIEWER = "viewer"
    OPERATOR = "operator"
    ADMIN = "admin"

    @property
    def permissions(self) -> frozenset[Permission]:
        """All permissions of the role."""
        return _PERMISSIONS[self]


_VIEWER = frozenset({Permission.READ})
_OPERATOR = _VIEWER | {Permission.PLAN, Permission.TUNE}
_PERMISSIONS = {
    Role.VIEWER: _VIEWER,
    Role.OPERATOR: _OPERATOR,
    Role.ADMIN: _OPERATOR | {Permission.DELETE, Permission.APPROVE, Permission.ADMIN},
}


@dataclass(frozen=True)
class Principal:
    """Who makes a call, and as what."""

    name: str
    role: Role

    def allows(self, permission: Permission) -> bool:
        """Whether the role includes the permission."""
        return permission in self.role.permissions

    def require(self, permission: Permission, action: str) -> None:
        """Let `action` go on.

        Raises:
            PermissionDeniedError: If the role lacks the permission; it names who has it.
        """
        if self.allows(permission):
            return
        granting = " or ".join(role.value for role in Role if permission in role.permissions)
        raise PermissionDeniedError(
            f"{action} needs the permission {permission.value!r}; {self.name} is {self.role.value}.",
            hint=f"Ask for the role {granting} (set when the server starts: --role, MCP_SERVER_ROLE or the token).",
        )
