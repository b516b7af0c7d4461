"""API tokens: made, checked, revoked. Written by hand on purpose (scopes, templates, digests)."""

from __future__ import annotations

import hmac
import secrets
from typing import TYPE_CHECKING

from django.db import transaction
from django.db.models import Q
from django.db.models.functions import Now
from django.utils import timezone
from django.utils.crypto import salted_hmac

from accounts import revocation
from accounts.audit import audit
from accounts.escalation import refuse_acting_as
from accounts.models import ApiToken, User
from accounts.permissions import SCOPES
from events.publishing import publish
from orchestrator.db.clock import from_now
from orchestrator.refusals import Forbidden, Invalid, NotFound

if TYPE_CHECKING:
    from collections.abc import Sequence
    from datetime import datetime
    from uuid import UUID

    from accounts.actors import Actor

PREFIX = "orc"
LAST_USE_SECONDS = 60  # how exact `last_used_at` is


def _digest(public_id: str, secret: str) -> str:
    return salted_hmac(f"accounts.tokens.{public_id}", secret, algorithm="sha256").hexdigest()


def create_token(
    actor: Actor,
    *,
    name: str,
    scopes: Sequence[str],
    user: User | None = None,
    templates: Sequence[UUID] | None = None,
    expires_at: datetime | None = None,
) -> tuple[ApiToken, str]:
    """Make a token for `user` (the actor by default) and return it with its clear text, once.

    A token never widens: the maker's own token must have every scope it gives. Raises `Invalid`
    for an unknown scope or an expiry in the past, `Forbidden` for somebody else's account without
    the permission to manage accounts.
    """
    owner = user or actor.user
    if owner is None:
        raise Invalid.field("user", "Name the account that the token is for.")
    name = name.strip()
    if not name:
        raise Invalid.field("name", "Give the token a name that tells where it is used.")
    if unknown := sorted(set(scopes) - SCOPES.keys()):
        raise Invalid.field(
            "scopes", f"There is no scope {', '.join(unknown)}. Scopes are: {', '.join(SCOPES)}."
        )
    if not scopes:
        raise Invalid.field("scopes", f"Choose at least one scope: {', '.join(SCOPES)}.")
    if expires_at and expires_at <= timezone.now():
        raise Invalid.field("expires_at", "The expiry lies in the past. Choose a later moment.")
    if actor.token:
        actor.require_scope("admin")
        narrowed = actor.token.templates
        if narrowed is not None:
            wanted = [str(pk) for pk in templates] if templates is not None else None
            if wanted is None or not set(wanted) <= set(narrowed):
                raise Forbidden(
                    "The token in use is narrowed to some templates; it cannot make a wider one.",
                    code="token_scope",
                )
    public_id = secrets.token_hex(6)
    secret = secrets.token_urlsafe(32)
    with transaction.atomic():
        actor.take()
        if owner.pk != actor.user_id:
            actor.require("accounts.manage")
            refuse_acting_as(actor, owner)
        token = ApiToken.objects.create(
            user=owner,
            name=name,
            public_id=public_id,
            digest=_digest(public_id, secret),
            scopes=sorted(set(scopes)),
            templates=None if templates is None else sorted(str(pk) for pk in templates),
            expires_at=expires_at,
            created_by=actor.user,
        )
        audit(
            actor,
            "token.created",
            f"token:{token.pk}",
            token.name,
            data={
                "account": owner.username,
                "scopes": token.scopes,
                "templates": token.templates,
                "expires_at": expires_at.isoformat() if expires_at else None,
            },
        )
        publish("token.created", f"token:{token.pk}", permission="accounts.view", owner_id=owner.pk)
    return token, f"{PREFIX}_{public_id}_{secret}"


def find_live(text: str) -> ApiToken | None:
    """Return the live token whose clear text this is, with its active account; else None.

    All failures look alike. Notes the last use at most once a minute.
    """
    prefix, _, rest = text.partition("_")
    public_id, _, secret = rest.partition("_")
    if prefix != PREFIX or not secret:
        return None
    token = (
        ApiToken.objects.live()
        .filter(public_id=public_id, user__is_active=True)
        .select_related("user")
        .first()
    )
    expected = token.digest if token else "0" * 64
    if not hmac.compare_digest(expected, _digest(public_id, secret)):
        return None
    return token


def note_use(token: ApiToken, address: str) -> None:
    """Store when and from where the token was last used, at most once a minute."""
    ApiToken.objects.filter(
        Q(last_used_at=None)
        | Q(last_used_at__lt=from_now(-LAST_USE_SECONDS))
        | ~Q(last_used_address=address or None),
        pk=token.pk,
    ).update(last_used_at=Now(), last_used_address=address or None)


def revoke_token(actor: Actor, token: ApiToken, *, running_vms: str = "keep") -> None:
    """Revoke `token`: it is refused from now on, and what it queued is cancelled.

    `running_vms` says what becomes of the VMs that it made: keep, stop or delete. Revoking twice
    changes nothing. Raises `NotFound` when the actor may not see the token.
    """
    running_vms = revocation.check_choice(running_vms)
    if not ApiToken.objects.visible_to(actor).filter(pk=token.pk).exists():
        raise NotFound("There is no such token.")
    if token.user_id != actor.user_id:
        actor.require("accounts.manage")
    else:
        actor.require_scope("admin")
    with transaction.atomic():
        locked = ApiToken.objects.select_for_update().get(pk=token.pk)
        if locked.revoked_at:
            return
        ApiToken.objects.filter(pk=token.pk).update(revoked_at=Now())
        hits = revocation.apply(revocation.Revoked("token", token.pk), running_vms, actor)
        audit(
            actor,
            "token.revoked",
            f"token:{token.pk}",
            token.name,
            data={"running_vms": running_vms, "hit": [str(hit) for hit in hits]},
        )
        publish(
            "token.revoked",
            f"token:{token.pk}",
            permission="accounts.view",
            owner_id=token.user_id,
        )
