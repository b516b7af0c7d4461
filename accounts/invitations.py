"""Invitations: a link, shown once, with which a person makes the account meant for them."""

from __future__ import annotations

import hashlib
import secrets
from typing import TYPE_CHECKING

from django.conf import settings
from django.core.exceptions import ValidationError
from django.db import transaction
from django.db.models.functions import Now
from django.urls import reverse

from accounts.actors import Actor
from accounts.audit import audit
from accounts.escalation import refuse_giving_roles
from accounts.models import Invitation, User
from accounts.users import create_user, from_validation
from events.publishing import publish
from orchestrator.db.clock import from_now
from orchestrator.refusals import Conflict, NotFound

if TYPE_CHECKING:
    from collections.abc import Sequence

    from accounts.models import Role

HOUR = 3600
GONE = (
    "This invitation is not valid: it was used, replaced or revoked, or it has expired. Ask for a "
    "new one."
)


def invite(
    actor: Actor, *, username: str, roles: Sequence[Role], email: str = ""
) -> tuple[Invitation, str]:
    """Invite a person to an account of this name; return the invitation and its secret.

    Raises `Forbidden` without the permission to manage accounts, `Invalid`, or `Conflict` when the
    name is taken or invited.
    """
    actor.require("accounts.manage")
    username = username.strip()
    try:
        User(username=username, email=email).full_clean(exclude=["password"])
    except ValidationError as error:
        raise from_validation(error) from None
    secret = secrets.token_urlsafe(32)
    with transaction.atomic():
        actor.take()
        actor.require("accounts.manage")
        refuse_giving_roles(actor, roles)
        if Invitation.objects.live().filter(username__iexact=username).exists():
            raise Conflict(
                f"“{username}” is invited already. Send that invitation again, or revoke it."
            )
        invitation = Invitation.objects.create(
            username=username,
            email=email,
            digest=_digest(secret),
            expires_at=from_now(settings.LINK_HOURS * HOUR),
            invited_by=actor.user,
        )
        invitation.roles.set(roles)
        invitation.refresh_from_db()
        data = {"roles": sorted(role.name for role in roles), "email": email}
        _note(actor, "created", invitation, **data)
    return invitation, secret


def resend(actor: Actor, invitation: Invitation) -> str:
    """Give an invitation a new secret and a new end; the old link is dead. Return the secret.

    Raises `Forbidden`, or `Conflict` when it was accepted or revoked.
    """
    actor.require("accounts.manage")
    secret = secrets.token_urlsafe(32)
    with transaction.atomic():
        actor.take()
        actor.require("accounts.manage")
        refuse_giving_roles(actor, invitation.roles.all())
        changed = Invitation.objects.filter(
            pk=invitation.pk, accepted_at=None, revoked_at=None
        ).update(
            digest=_digest(secret),
            expires_at=from_now(settings.LINK_HOURS * HOUR),
            invited_by=actor.user,
        )
        if not changed:
            raise Conflict("This invitation was accepted or revoked. Make a new one.")
        invitation.refresh_from_db()
        _note(actor, "renewed", invitation)
    return secret


def revoke(actor: Actor, invitation: Invitation) -> None:
    """Revoke an invitation: its link is dead. Doing so twice changes nothing.

    Raises `Forbidden`, or `Conflict` when it was accepted.
    """
    actor.require("accounts.manage")
    with transaction.atomic():
        actor.take()
        actor.require("accounts.manage")
        open_ = Invitation.objects.filter(pk=invitation.pk, accepted_at=None, revoked_at=None)
        if open_.update(revoked_at=Now()):
            _note(actor, "revoked", invitation)
        elif Invitation.objects.filter(pk=invitation.pk, revoked_at=None).exists():
            raise Conflict("This invitation was accepted. Deactivate the account instead.")


def find(secret: str) -> Invitation:
    """Return the live invitation of this secret. Raises `NotFound`."""
    found = Invitation.objects.live().filter(digest=_digest(secret)).select_related("invited_by")
    invitation = found.first()
    # What an administrator offered ends with their right to offer it.
    if invitation is None or not Actor(invitation.invited_by).can("accounts.manage"):
        raise NotFound(GONE)
    return invitation


def accept(actor: Actor, secret: str, password: str) -> User:
    """Make the account of an invitation, once; `actor` is the product, at the guest's address.

    Raises `NotFound`, `Invalid` or `Conflict`.
    """
    with transaction.atomic():
        invitation = find(secret)
        mine = Invitation.objects.live().filter(pk=invitation.pk, digest=_digest(secret))
        if not mine.update(accepted_at=Now()):
            raise NotFound(GONE)
        user = create_user(
            actor,
            username=invitation.username,
            email=invitation.email,
            password=password,
            roles=list(invitation.roles.select_related("group")),
            source=f"invitation by {invitation.invited_by}",
        )
        Invitation.objects.filter(pk=invitation.pk).update(account=user)
        _note(actor, "accepted", invitation)
    return user


def path_of(secret: str) -> str:
    """Return the path of the page where the invitation is accepted."""
    return reverse("accounts:accept-invitation", args=[secret])


def _digest(secret: str) -> str:
    return hashlib.sha256(secret.encode()).hexdigest()


def _note(actor: Actor, what: str, invitation: Invitation, **data: object) -> None:
    subject = f"invitation:{invitation.pk}"
    audit(actor, f"invitation.{what}", subject, invitation.username, data=data)
    publish(f"invitation.{what}", subject, permission="accounts.view")
