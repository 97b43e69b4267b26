"""Who may use which tool: modes, allow, ask and deny rules, `can_use_tool`. May refuse, never executes."""

from .modes import (
    Decision,
    PermissionContext,
    PermissionMode,
    PermissionResult,
    PermissionResultAllow,
    PermissionResultDeny,
    ToolPermission,
    ToolPermissionContext,
)
from .policy import Asker, CanUseTool, Permissions, permissions_of, permit
from .rules import Rule

__all__ = [
    "Asker", "CanUseTool", "Decision", "PermissionContext", "PermissionMode", "PermissionResult",
    "PermissionResultAllow", "PermissionResultDeny", "Permissions", "Rule", "ToolPermission", "ToolPermissionContext",
    "permissions_of", "permit",
]  # fmt: skip
