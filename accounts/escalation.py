"""Nobody hands out, or reaches through somebody else, a right that they do not have."""

from __future__ import annotations

from typing import TYPE_CHECKING

from accounts.models import Role, User
from accounts.permissions import PERMISSIONS
from orchestrator.refusals import Forbidden

if TYPE_CHECKING:
    from collections.abc import Iterable

    from accounts.actors import Actor


def refuse_giving(actor: Actor, permissions: Iterable[str]) -> None:
    """Raise `Forbidden` when the actor lacks one of the permissions that it would give."""
    lacking = set(permissions) & PERMISSIONS.keys() - actor.permissions
    if lacking:
        raise Forbidden(
            f"You may not give rights that you do not have: {', '.join(sorted(lacking))}. Ask "
            "somebody who has them."
        )


def refuse_giving_roles(actor: Actor, roles: Iterable[Role]) -> None:
    """Raise `Forbidden` when one of `roles` gives a permission that the actor lacks."""
    refuse_giving(actor, (code for role in roles for code in role.permissions))


def refuse_acting_as(actor: Actor, user: User) -> None:
    """Raise `Forbidden` when `user` may do what the actor may not.

    For what lets the actor act as `user`: setting its password, making its tokens.
    """
    if user.pk != actor.user_id:
        refuse_giving_roles(actor, Role.objects.of(user.pk))
