"""The drill for a leaked token: revoke all tokens of an account, and see what they did."""

from __future__ import annotations

import json
from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING, Any

from django.db import transaction
from django.db.models import Count, Max, Min
from django.utils import timezone

from accounts import revocation, tokens
from accounts.audit import audit
from accounts.audit.exporting import in_batches, record
from accounts.models import ApiToken, AuditEvent, User
from orchestrator.refusals import NotFound

if TYPE_CHECKING:
    from collections.abc import Iterator
    from datetime import datetime

    from django.db.models import QuerySet

    from accounts.actors import Actor
    from accounts.revocation import Hit

DAYS = 30
MOST_SHOWN = 100  # of each list; the report has everything


@dataclass(frozen=True)
class Activity:
    """What the tokens of an account did since `since`: how often each thing, most often first."""

    since: datetime
    events: int
    actions: list[dict[str, Any]]
    objects: list[dict[str, Any]]
    addresses: list[dict[str, Any]]


def live_tokens(actor: Actor, user: User) -> list[ApiToken]:
    """Return the tokens that `revoke_all` would revoke. Raises `NotFound`."""
    _require_seen(actor, user)
    return list(ApiToken.objects.live().filter(user=user).select_related("user").order_by("pk"))


def preview(actor: Actor, user: User) -> list[Hit]:
    """Return what revoking all tokens of `user` would hit now. Raises `NotFound`."""
    return [
        hit
        for token in live_tokens(actor, user)
        for hit in revocation.preview(revocation.Revoked("token", token.pk))
    ]


def revoke_all(
    actor: Actor, user: User, *, running_vms: str = "keep"
) -> tuple[list[ApiToken], list[Hit]]:
    """Revoke every live token of `user` at once; return them and what that reached.

    The account and its sessions go on: deactivate it to end those, too. Raises `NotFound`,
    `Invalid`, or `Forbidden` for somebody else's account without the right to manage accounts.
    """
    running_vms = revocation.check_choice(running_vms)
    _require_seen(actor, user)
    if user.pk == actor.user_id:
        actor.require_scope("admin")
    else:
        actor.require("accounts.manage")
    with transaction.atomic():
        # Whoever makes a token for themselves takes this row first: no token slips through.
        User.objects.select_for_update().filter(pk=user.pk).first()
        live = ApiToken.objects.live().filter(user=user).order_by("pk")
        revoked = list(live.select_for_update())
        hits = [hit for token in revoked for hit in tokens.end_locked(actor, token, running_vms)]
        data = {
            "tokens": [str(token.pk) for token in revoked],
            "running_vms": running_vms,
            "hit": [str(hit) for hit in hits],
        }
        audit(actor, "user.tokens_revoked", f"user:{user.pk}", user.username, data=data)
    return revoked, hits


def activity(actor: Actor, user: User) -> Activity:
    """Return what the tokens of `user` did in the last 30 days, refusals too.

    About somebody else it needs `audit.view`; raises `NotFound`, `Forbidden`.
    """
    since = timezone.now() - timedelta(days=DAYS)
    rows = _acts(actor, user, since)

    def most(*fields: str) -> list[dict[str, Any]]:
        counted = rows.order_by().values(*fields)
        counted = counted.annotate(
            count=Count("pk"), first_at=Min("created_at"), last_at=Max("created_at")
        )
        return list(counted.order_by("-count", *fields)[:MOST_SHOWN])

    return Activity(
        since,
        rows.count(),
        most("action", "outcome"),
        most("subject", "subject_name"),
        most("address"),
    )


def report(actor: Actor, user: User) -> Iterator[str]:
    """Return the whole of it as JSON lines: the account with its tokens, then each event.

    Raises as `activity`; that somebody took it is audited.
    """
    since = timezone.now() - timedelta(days=DAYS)
    rows = _acts(actor, user, since)
    head = {
        "account": {"id": str(user.pk), "username": user.username, "kind": user.kind},
        "since": since.isoformat(),
        "tokens": [_told(token) for token in ApiToken.objects.filter(user=user).order_by("pk")],
    }
    audit(actor, "user.tokens_reported", f"user:{user.pk}", user.username)

    def lines() -> Iterator[str]:
        yield json.dumps(head, ensure_ascii=False) + "\n"
        for event in in_batches(rows):
            yield json.dumps(record(event), ensure_ascii=False) + "\n"

    return lines()


def may_see_activity(actor: Actor, user: User) -> bool:
    """Return whether `activity` and `report` are for the actor."""
    return user.pk == actor.user_id or actor.can("audit.view")


def _acts(actor: Actor, user: User, since: datetime) -> QuerySet[AuditEvent]:
    _require_seen(actor, user)
    if not may_see_activity(actor, user):
        actor.require("audit.view")
    return AuditEvent.objects.filter(
        actor_id=user.pk, token_id__isnull=False, created_at__gte=since
    )


def _require_seen(actor: Actor, user: User) -> None:
    if user.pk != actor.user_id and not actor.can("accounts.view"):
        raise NotFound("There is no such account.")


def _told(token: ApiToken) -> dict[str, Any]:
    moments = ("created_at", "last_used_at", "expires_at", "revoked_at")
    told = {name: getattr(token, name) for name in moments}
    return {
        "id": str(token.pk),
        "name": token.name,
        "prefix": token.prefix,
        "scopes": token.scopes,
        "last_used_address": token.last_used_address,
        **{name: moment.isoformat() if moment else None for name, moment in told.items()},
    }
