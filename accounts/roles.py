"""The shipped roles: the table role × permission. Route tests and docs are generated from it."""

from __future__ import annotations

from typing import Any

from django.db import transaction

from accounts.permissions import ALL, READS

SHIPPED_ROLES: dict[str, frozenset[str]] = {
    "Administrator": ALL,
    "Operator": frozenset(
        {
            "hosts.view",
            "hosts.logs",
            "hosts.manage",
            "images.view",
            "images.manage",
            "templates.view_all",
            "vms.use",
            "vms.view_all",
            "vms.manage_all",
            "deployments.view",
            "deployments.manage",
            "deployments.run",
            "deployments.skip",
            "deployments.assign",
            "jobs.view_all",
            "webhooks.use",
        }
    ),
    "Developer": frozenset({"vms.use", "webhooks.use"}),
    "Auditor": READS,
}


def sync_shipped_roles(**_: Any) -> None:
    """Make the shipped roles and give them the permissions of the table."""
    from django.contrib.auth.models import Group

    from accounts.models import Role

    with transaction.atomic():
        for name, permissions in SHIPPED_ROLES.items():
            group, _created = Group.objects.get_or_create(name=name)
            Role.objects.update_or_create(
                group=group, defaults={"shipped": True, "permissions": sorted(permissions)}
            )
