"""What may be asked for: names, sizes, how long a lease may be, and on whose share it counts."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from accounts.models import Role
from orchestrator.db.locks import take_all
from orchestrator.refusals import Conflict, Invalid

if TYPE_CHECKING:
    from accounts.models import User
    from vms.models import Grant, Template

NAME = re.compile(r"[A-Za-z0-9]([A-Za-z0-9._-]{0,61}[A-Za-z0-9])?")
MAXIMUM = {"cpus": 512, "memory_mib": 16 * 1024 * 1024, "disk_gib": 1024 * 1024}


def checked_name(name: str) -> str:
    """Return the name without spaces around it; raises `Invalid`."""
    name = name.strip()
    if not NAME.fullmatch(name):
        raise Invalid.field(
            "name",
            "Use 1 to 63 letters, digits, dots, dashes or underscores, "
            "beginning and ending with a letter or digit.",
        )
    return name


def name_taken(name: str) -> Conflict:
    """Return the refusal of a name that another VM has."""
    return Conflict(
        f"A VM named {name} exists. Choose another name, or delete that one first.",
        code="name_taken",
        errors={"name": ["A VM of this name exists."]},
    )


def checked_lease(template: Template, grant: Grant | None, wanted: int | None) -> int:
    """Return how long a lease may be that was asked for, in seconds; raises `Invalid`."""
    longest = maximum_lease_seconds(template, grant)
    if wanted is None:
        return min(template.default_lease_seconds, longest)
    if not 1 <= wanted <= longest:
        raise Invalid.field(
            "lease_seconds", f"This template and your grant allow leases of 1 to {longest} seconds."
        )
    return wanted


def maximum_lease_seconds(template: Template, grant: Grant | None) -> int:
    """Return the longest lease that template and grant allow, in seconds."""
    limits = [template.maximum_lease_seconds]
    if grant and grant.maximum_lease_seconds:
        limits.append(grant.maximum_lease_seconds)
    return min(limits)


def slug(name: str, length: int = 40) -> str:
    """Return `name` as a host takes it: lower-case letters, digits and single dashes."""
    return re.sub(r"[^a-z0-9]+", "-", name.lower()).strip("-")[:length].strip("-") or "vm"


def heaviest_role(user: User | None) -> Role | None:
    """Return the role on whose share what an account has by a direct grant counts."""
    if user is None:
        return None
    # Kept until the transaction ends: a role that is being deleted waits for this VM, or is gone.
    roles = take_all(Role.objects.of(user.pk))
    return max(roles, key=lambda role: (role.weight, -role.pk.int), default=None)
