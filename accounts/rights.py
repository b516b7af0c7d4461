"""What an account may do, and by which of its roles."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from accounts.models import Role, User
from accounts.permissions import PERMISSIONS, Permission
from orchestrator.refusals import NotFound

if TYPE_CHECKING:
    from accounts.actors import Actor


@dataclass(frozen=True)
class Right:
    """A permission, and the roles of an account that give it; none when it does not have it."""

    permission: Permission
    roles: list[Role]


def rights_of(actor: Actor, user: User) -> list[Right]:
    """Return every permission with what gives it to `user`, in the order of the table.

    About somebody else it needs `accounts.view`; raises `NotFound`. The roles of a deactivated
    account are told, too, though it may do nothing until it is active again.
    """
    if user.pk != actor.user_id and not actor.can("accounts.view"):
        raise NotFound("There is no such account.")
    roles = list(Role.objects.of(user.pk).select_related("group").order_by("group__name"))
    return [
        Right(permission, [role for role in roles if code in role.permissions])
        for code, permission in PERMISSIONS.items()
    ]
