"""What may be allowed: every permission, what it means, and the token scope that a write needs."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Collection
    from uuid import UUID


@dataclass(frozen=True)
class Permission:
    """`noun` is the token scope that covers it; `None` marks a permission that only reads."""

    code: str
    label: str
    noun: str | None = None


PERMISSIONS = {
    permission.code: permission
    for permission in [
        Permission("hosts.view", "See hosts, their health, capacity and VMs"),
        Permission("hosts.manage", "Enrol, hold, tag and remove hosts", "hosts"),
        Permission("hosts.logs", "Read the logs of hosts"),
        Permission("images.view", "See the image catalog and what hosts cache"),
        Permission("images.manage", "Add catalog sources and images", "hosts"),
        Permission("templates.view_all", "See every template and its grants"),
        Permission(
            "templates.manage", "Make, change, revoke and grant every template", "templates"
        ),
        Permission("vms.use", "Ask for VMs from granted templates; act on one's own", "vms"),
        Permission("vms.view_roles", "See VMs that count on the share of one's roles"),
        Permission("vms.manage_roles", "Act on VMs that count on the share of one's roles", "vms"),
        Permission("vms.view_all", "See everybody's VMs"),
        Permission("vms.manage_all", "Act on everybody's VMs", "vms"),
        Permission("deployments.view", "See packages, environments and deployments"),
        Permission(
            "deployments.manage",
            "Make and change packages, environments and dictionaries",
            "deployments",
        ),
        Permission(
            "deployments.run",
            "Start, stop, continue, cancel and roll back deployments",
            "deployments",
        ),
        Permission("deployments.skip", "Skip steps of deployments", "deployments"),
        Permission(
            "deployments.assign", "Take deployments over, and assign them to others", "deployments"
        ),
        Permission("deployments.force", "Cancel deployments by force", "deployments"),
        Permission(
            "deployments.everywhere",
            "Act in restricted environments without being on their lists",
            "deployments",
        ),
        Permission("jobs.view_all", "See everybody's jobs"),
        Permission("accounts.view", "See users, service accounts, roles and their tokens"),
        Permission("accounts.manage", "Manage users, service accounts, roles, tokens", "admin"),
        Permission("audit.view", "Read the audit trail"),
        Permission("webhooks.use", "Have events that one may see sent to an address", "admin"),
    ]
}

OF_ROLES = "vms.view_roles"  # counts for the roles that one has


def scoped(role_id: UUID | None) -> str:
    """Return the right to see what counts on the share of one role; empty without a role."""
    return f"{OF_ROLES}:{role_id}" if role_id else ""


def audience(permissions: Collection[str], role_ids: Collection[UUID]) -> frozenset[str]:
    """Return the permissions, and with that to see what one's roles have, each role's."""
    roles = role_ids if OF_ROLES in permissions else ()
    return frozenset(permissions) | {scoped(role_id) for role_id in roles}


READS = frozenset(code for code, permission in PERMISSIONS.items() if permission.noun is None)
ALL = frozenset(PERMISSIONS)
CODES = tuple(sorted(PERMISSIONS))

# Scopes of an API token: `read` allows every read; a noun adds its writes; `admin` adds all.
SCOPES = {
    "read": "Every read that the account may do",
    "vms": "Reads, and everything with VMs",
    "templates": "Reads, and changes of templates and grants",
    "hosts": "Reads, and changes of hosts and images",
    "deployments": "Reads, and changes of deployments",
    "admin": "Everything that the account may do",
}
