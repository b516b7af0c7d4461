"""API tokens: made, checked, revoked. Written by hand on purpose (scopes, templates, digests)."""

from __future__ import annotations

import hmac
import secrets
from datetime import timedelta
from typing import TYPE_CHECKING, Any

from django.db import transaction
from django.db.models import Q
from django.db.models.functions import Now
from django.utils import timezone
from django.utils.crypto import salted_hmac

from accounts import restrictions, revocation
from accounts.audit import audit, changed
from accounts.escalation import refuse_acting_as
from accounts.models import ApiToken, ApiTokenQuerySet, User
from events.publishing import publish
from orchestrator.db.clock import from_now
from orchestrator.db.locks import go_first
from orchestrator.refusals import Invalid, NotFound

if TYPE_CHECKING:
    from collections.abc import Sequence
    from datetime import datetime
    from uuid import UUID

    from accounts.actors import Actor
    from accounts.revocation import Hit

PREFIX = "orc"
LAST_USE_SECONDS = 60  # how exact the last use is


def _digest(public_id: str, secret: str) -> str:
    return salted_hmac(f"accounts.tokens.{public_id}", secret, algorithm="sha256").hexdigest()


def create_token(
    actor: Actor,
    *,
    name: str,
    scopes: Sequence[str],
    user: User | None = None,
    templates: Sequence[UUID] | None = None,
    networks: Sequence[str] | None = None,
    maximum_vms: int | None = None,
    expires_at: datetime | None = None,
) -> tuple[ApiToken, str]:
    """Make a token for `user` (the actor by default) and return it with its clear text, once.

    It may be narrowed to `templates`, to source `networks` (CIDR) and to `maximum_vms` at once.
    A token never widens: the maker's own token must allow all that it gives. Raises `Invalid` for
    a value that makes no sense, `Forbidden` for somebody else's account without the permission to
    manage accounts.
    """
    owner = user or actor.user
    if owner is None:
        raise Invalid.field("user", "Name the account that the token is for.")
    name = name.strip()
    if not name:
        raise Invalid.field("name", "Give the token a name that tells where it is used.")
    scopes = restrictions.checked_scopes(scopes)
    limits = restrictions.checked(
        templates=templates, networks=networks, maximum_vms=maximum_vms, expires_at=expires_at
    )
    restrictions.require_no_wider(actor, limits)
    public_id, digest, clear_text = new_secret()
    with transaction.atomic():
        actor.take()
        if owner.pk != actor.user_id:
            actor.require("accounts.manage")
            refuse_acting_as(actor, owner)
        token = ApiToken.objects.create(
            user=owner,
            name=name,
            public_id=public_id,
            digest=digest,
            scopes=scopes,
            templates=limits.templates,
            networks=limits.networks,
            maximum_vms=limits.maximum_vms,
            expires_at=limits.expires_at,
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
                "networks": token.networks,
                "maximum_vms": token.maximum_vms,
                "expires_at": expires_at.isoformat() if expires_at else None,
            },
        )
        announce(token, "created")
    return token, clear_text


def new_secret() -> tuple[str, str, str]:
    """Return a new secret: its public id, its digest, and the clear text to show once."""
    public_id, secret = secrets.token_hex(6), secrets.token_urlsafe(32)
    return public_id, _digest(public_id, secret), f"{PREFIX}_{public_id}_{secret}"


def find_live(text: str, address: str = "") -> ApiToken | None:
    """Return the live token whose clear text this is, with its active account; else None.

    All failures look alike, but for the right secret from a wrong network: that raises
    `WrongNetwork`, to be audited. `address` is where the request comes from.
    """
    live = ApiToken.objects.live().filter(user__is_active=True)
    token = _find(live, text, Q(previous_ends_at__gt=Now()))
    if token:
        restrictions.check_network(token, address)
    return token


def _find(rows: ApiTokenQuerySet, text: str, overlapping: Q | None = None) -> ApiToken | None:
    """Return the row whose clear text this is: of its secret, or of the one before a rotation."""
    prefix, _, rest = text.partition("_")
    public_id, _, secret = rest.partition("_")
    if prefix != PREFIX or not secret:
        return None
    before = Q(previous_public_id=public_id) & (overlapping or Q())
    token = rows.filter(Q(public_id=public_id) | before).select_related("user").first()
    expected = "0" * 64
    if token:
        expected = token.digest if public_id == token.public_id else token.previous_digest
    if not hmac.compare_digest(expected, _digest(public_id, secret)):
        return None
    assert token
    token.used_id = public_id
    return token


def find_known(text: str) -> ApiToken | None:
    """Return the token whose clear text this is, live or not; else None."""
    return _find(ApiToken.objects.all(), text)


def note_use(token: ApiToken, address: str) -> None:
    """Store when and from where the secret in use was last used: one write a minute at most."""
    which = "last_used" if token.used_id in ("", token.public_id) else "previous_used"
    known = getattr(token, f"{which}_at")
    if known and timezone.now() - known < timedelta(seconds=LAST_USE_SECONDS):
        return
    # Several processes may have come here at once: one of them writes.
    due = Q(**{f"{which}_at": None}) | Q(**{f"{which}_at__lt": from_now(-LAST_USE_SECONDS)})
    ApiToken.objects.filter(due, pk=token.pk).update(
        **{f"{which}_at": Now(), f"{which}_address": address or None}
    )


def revoke_token(actor: Actor, token: ApiToken, *, running_vms: str = "keep") -> None:
    """Revoke `token`: it is refused from now on, and what it queued is cancelled.

    `running_vms` says what becomes of the VMs that it made: keep, stop or delete. Revoking twice
    changes nothing. Raises `NotFound` when the actor may not see the token.
    """
    running_vms = revocation.check_choice(running_vms)
    require_manage(actor, token)
    with transaction.atomic():
        go_first()
        locked = ApiToken.objects.select_for_update().get(pk=token.pk)
        if not locked.revoked_at:
            end_locked(actor, locked, running_vms)


def end_locked(actor: Actor, token: ApiToken, running_vms: str) -> list[Hit]:
    """Revoke a token whose row the caller has locked; return what that reached."""
    ApiToken.objects.filter(pk=token.pk).update(revoked_at=Now())
    hits = revocation.apply(revocation.Revoked("token", token.pk), running_vms, actor)
    data = {"running_vms": running_vms, "hit": [str(hit) for hit in hits]}
    data |= changed({"revoked": False}, {"revoked": True})
    audit(actor, "token.revoked", f"token:{token.pk}", token.name, data=data)
    announce(token, "revoked")
    return hits


def require_manage(actor: Actor, token: ApiToken) -> None:
    """Raise `NotFound` or `Forbidden` unless the actor may rotate and revoke `token`."""
    if not ApiToken.objects.visible_to(actor).filter(pk=token.pk).exists():
        raise NotFound("There is no such token.")
    if token.user_id != actor.user_id:
        actor.require("accounts.manage")
    else:
        actor.require_scope("admin")


def announce(token: ApiToken, what: str, data: dict[str, Any] | None = None) -> None:
    """Publish `token.<what>` to its account and to those who see accounts."""
    subject = f"token:{token.pk}"
    data = {"name": token.name, **(data or {})}
    publish(f"token.{what}", subject, data, permission="accounts.view", owner_id=token.user_id)
