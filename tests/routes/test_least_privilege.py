"""Shipped roles allow what they are for, and nothing else: each right opens something."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from django.test import Client

from accounts.models import Role
from accounts.permissions import PERMISSIONS, READS
from accounts.roles import SHIPPED_ROLES
from tests.routes.test_table import answer, client_of

if TYPE_CHECKING:
    from tests.routes.conftest import World

# One thing that each permission opens on what belongs to somebody else.
OPENS = {
    "hosts.view": ("api:host", "GET"),
    "hosts.manage": ("api:host-cordon", "POST"),
    "hosts.logs": ("hosts:logs", "GET"),
    "images.view": ("api:image", "GET"),
    "images.manage": ("api:image-taint", "POST"),
    "templates.view_all": ("api:template", "GET"),
    "templates.manage": ("api:template-revoke", "POST"),
    "vms.use": ("api:access-requests", "POST"),
    "vms.view_all": ("api:vm", "GET"),
    "vms.manage_all": ("api:vm", "DELETE"),
    "jobs.view_all": ("api:job", "GET"),
    "accounts.view": ("api:user", "GET"),
    "accounts.manage": ("api:roles", "POST"),
    "audit.view": ("accounts:audit", "GET"),
    "webhooks.use": ("api:webhooks", "POST"),
    "deployments.view": ("api:environment", "GET"),
    "deployments.manage": ("api:environments", "POST"),
    "deployments.run": ("api:task-start", "POST"),
    "deployments.skip": ("api:task-skip", "POST"),
    "deployments.assign": ("api:task-take-over", "POST"),
    "deployments.force": ("tasks:force", "POST"),
}
# These widen what another one opens: tests/vms/test_roles.py, tests/deployments/running/
# test_access.py have them.
WIDENING = {"vms.view_roles", "vms.manage_roles", "deployments.everywhere"}


def test_each_right_of_a_shipped_role_opens_something_and_taking_it_closes_that(
    world: World,
) -> None:
    assert OPENS.keys() | WIDENING == PERMISSIONS.keys()
    useless, wrong = [], []
    for name in ("Operator", "Developer", "Auditor"):
        client = client_of(world, name.lower())
        role = Role.objects.get(group__name=name)
        for code in OPENS:
            with_it = answer(client, world, *OPENS[code], "other")
            if code not in SHIPPED_ROLES[name]:
                if with_it not in ("403", "404", "login"):
                    wrong.append(f"{name} does {OPENS[code]} without {code}: {with_it}")
                continue
            Role.objects.filter(pk=role.pk).update(
                permissions=sorted(set(role.permissions) - {code})
            )
            without = answer(client, world, *OPENS[code], "other")
            Role.objects.filter(pk=role.pk).update(permissions=role.permissions)
            if (with_it in ("403", "404")) or without not in ("403", "404"):
                useless.append(f"{name} {code}: {with_it}, without it {without}")
    assert (useless, wrong) == ([], [])


def test_roles_are_no_wider_than_what_they_are_for() -> None:
    writes = PERMISSIONS.keys() - READS
    assert not SHIPPED_ROLES["Auditor"] & writes, "an auditor changes nothing"
    over_people = {"accounts.manage", "accounts.view", "audit.view", "templates.manage"}
    assert not SHIPPED_ROLES["Operator"] & over_people, "operators run hosts, not access"
    assert SHIPPED_ROLES["Developer"] == {"vms.use", "webhooks.use"}
    assert SHIPPED_ROLES["Developer"] < SHIPPED_ROLES["Operator"] < SHIPPED_ROLES["Administrator"]


@pytest.mark.django_db
def test_an_account_without_a_role_may_do_nothing(charlie: object) -> None:
    client = Client()
    client.force_login(charlie, "allauth.account.auth_backends.AuthenticationBackend")  # type: ignore[arg-type]
    assert client.get("/api/v2/me/").json()["permissions"] == []
