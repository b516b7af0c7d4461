"""What an account may do, and by which of its roles."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from accounts.actors import Actor
from accounts.models import Role, User
from accounts.permissions import PERMISSIONS, Permission
from orchestrator.refusals import NotFound

if TYPE_CHECKING:
    from accounts.models import ApiToken


@dataclass(frozen=True)
class Right:
    """A permission, and the roles of an account that give it; none when it does not have it.

    `kept_from` says why a token of the account does not have it all the same.
    """

    permission: Permission
    roles: list[Role]
    kept_from: str = ""

    @property
    def held(self) -> bool:
        return bool(self.roles) and not self.kept_from


def rights_of(actor: Actor, user: User, token: ApiToken | None = None) -> list[Right]:
    """Return every permission with what gives it to `user`, in the order of the table.

    With one of its tokens, also what the token's scopes keep it from. About somebody else it needs
    `accounts.view`; raises `NotFound`. The roles of a deactivated account are told, too, though it
    may do nothing until it is active again.
    """
    if user.pk != actor.user_id and not actor.can("accounts.view"):
        raise NotFound("There is no such account.")
    roles = list(Role.objects.of(user.pk).select_related("group").order_by("group__name"))
    by_token = Actor(user, token)
    return [
        Right(
            permission,
            [role for role in roles if code in role.permissions],
            ""
            if by_token.in_scope(permission.noun)
            else f"The token does not have the scope {permission.noun}.",
        )
        for code, permission in PERMISSIONS.items()
    ]
