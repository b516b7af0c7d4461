"""Roles that single sign-on gives and takes; those that were given by hand stay."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from django.conf import settings
from django.db import transaction

from accounts import users
from accounts.models import ProvidedRole, Role, User
from orchestrator.db.locks import go_first

if TYPE_CHECKING:
    from accounts.actors import Actor

SOURCE = "single sign-on"


def roles_of(claims: dict[str, Any]) -> list[Role]:
    """Return the roles that `OIDC_ROLES` gives for the claim `OIDC_GROUPS_CLAIM`.

    A dotted name leads into objects: `realm_access.roles`, as Keycloak nests them.
    """
    value: Any = claims.get(settings.OIDC_GROUPS_CLAIM)
    if value is None:
        value = claims
        for part in settings.OIDC_GROUPS_CLAIM.split("."):
            value = value.get(part) if isinstance(value, dict) else None
    groups = [value] if isinstance(value, str) else value if isinstance(value, list) else []
    names = {
        name
        for group in groups
        if isinstance(group, str)
        for name in settings.OIDC_ROLES.get(group, [])
    }
    return list(
        Role.objects.filter(group__name__in=names).select_related("group").order_by("group__name")
    )


def provide(actor: Actor, user: User, wanted: list[Role]) -> None:
    """Give `user` the `wanted` roles, and take those that single sign-on gave before.

    Raises `Conflict` when that would leave no administrator.
    """
    with transaction.atomic():
        go_first()
        User.objects.select_for_update().get(pk=user.pk)
        held = {role.pk: role for role in Role.objects.of(user.pk).select_related("group")}
        given = set(ProvidedRole.objects.filter(user=user).values_list("role", flat=True))
        by_hand = {pk: role for pk, role in held.items() if pk not in given}
        after = by_hand | {role.pk: role for role in wanted}
        users.set_roles(actor, user, list(after.values()), source=SOURCE)
        ProvidedRole.objects.bulk_create(
            ProvidedRole(user=user, role=role)
            for role in wanted
            if role.pk not in by_hand and role.pk not in given
        )
