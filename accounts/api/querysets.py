"""What an actor may see of accounts: all with `accounts.view`, else only their own."""

from __future__ import annotations

from typing import TYPE_CHECKING

from accounts.models import Role, User

if TYPE_CHECKING:
    from django.db.models import QuerySet

    from accounts.actors import Actor


def users_visible_to(actor: Actor) -> QuerySet[User]:
    if actor.can("accounts.view"):
        return User.objects.all()
    return User.objects.filter(pk__in=[actor.user_id])


def roles_visible_to(actor: Actor) -> QuerySet[Role]:
    rows = Role.objects.select_related("group")
    return rows if actor.can("accounts.view") else rows.filter(group__user=actor.user_id)
