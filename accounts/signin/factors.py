"""Second factors that were lost."""

from __future__ import annotations

from typing import TYPE_CHECKING

from allauth.mfa.models import Authenticator
from django.db import transaction

from accounts.audit import audit
from accounts.escalation import refuse_acting_as
from accounts.signin.sessions import sign_out_everywhere
from orchestrator.refusals import Conflict

if TYPE_CHECKING:
    from accounts.actors import Actor
    from accounts.models import User


def remove_all(actor: Actor, user: User) -> None:
    """Remove a person's authenticator, passkeys and recovery codes, and end their sessions.

    They sign in without until they set new ones up; a role that asks for one sends them to do so at
    once. Raises `Forbidden`, or `Conflict` for one's own: those are changed on one's own pages.
    """
    actor.require("accounts.manage")
    if user.pk == actor.user_id:
        raise Conflict("Change your own second factors under Account.")
    with transaction.atomic():
        actor.take()
        actor.require("accounts.manage")
        refuse_acting_as(actor, user)
        found = list(Authenticator.objects.select_for_update().filter(user=user))
        if not found:
            raise Conflict("This account has no second factor.")
        Authenticator.objects.filter(pk__in=[one.pk for one in found]).delete()
        sign_out_everywhere(actor, user)
        audit(
            actor,
            "second_factor.reset",
            f"user:{user.pk}",
            user.username,
            data={"kinds": sorted({one.type for one in found})},
        )
