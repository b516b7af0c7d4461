"""What pages of other rooms show of deployments."""

from __future__ import annotations

from typing import TYPE_CHECKING

from django import template

from deployments import access

if TYPE_CHECKING:
    from accounts.actors import Actor
    from accounts.models import ApiToken, User
    from deployments.access import Reach

register = template.Library()


@register.simple_tag
def environments_of(viewer: Actor, account: User, token: ApiToken | None = None) -> list[Reach]:
    """Return how far an account, or its token, can go in each environment that the viewer sees."""
    return access.reach_of(viewer, account, token or None)
