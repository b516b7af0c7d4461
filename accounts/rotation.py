"""Rotating a token: a new secret, and a time in which the old one still works.

Both are secrets of one token, so what was made with the old one belongs to it as before.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from django.db import transaction
from django.db.models.functions import Now

from accounts import restrictions
from accounts.audit import audit
from accounts.escalation import refuse_acting_as
from accounts.models import ApiToken
from accounts.tokens import announce, new_secret, require_manage
from orchestrator.db.clock import from_now
from orchestrator.refusals import Conflict, Invalid

if TYPE_CHECKING:
    from accounts.actors import Actor

OVERLAP_SECONDS = 86_400
LONGEST_OVERLAP_SECONDS = 30 * 86_400


def rotate_token(
    actor: Actor, token: ApiToken, *, overlap_seconds: int = OVERLAP_SECONDS
) -> tuple[ApiToken, str]:
    """Give `token` a new secret; return the token and the clear text, once.

    The old secret works for `overlap_seconds` more: 0 ends it, and one before it, at once. Raises
    `NotFound`, `Forbidden`, `Invalid`, or `Conflict` for a token that has ended, and while the
    overlap of an earlier rotation has not.
    """
    require_manage(actor, token)
    refuse_acting_as(actor, token.user)
    if token.key:
        raise Conflict("A key pair has the secret that its maker chose. Make a new one.")
    if not 0 <= overlap_seconds <= LONGEST_OVERLAP_SECONDS:
        raise Invalid.field("overlap_seconds", f"Give 0 to {LONGEST_OVERLAP_SECONDS} seconds.")
    public_id, digest, clear_text = new_secret()
    with transaction.atomic():
        itself = actor.token is not None and actor.token.pk == token.pk
        if not itself:  # a share of its row would only be in the way of the lock
            actor.take()
            require_manage(actor, token)  # roles may have changed before the account was taken
        locked = _locked(token)
        if not itself:
            restrictions.require_no_wider(actor, restrictions.Restrictions.of(locked))
        if not ApiToken.objects.live().filter(pk=token.pk).exists():
            raise Conflict("This token was revoked or has expired. Make a new one.")
        if overlap_seconds and locked.has_previous:
            raise Conflict(
                "The secret before the last rotation still works. End it first, or rotate without "
                "an overlap, which ends both.",
                code="overlap_open",
            )
        previous = (locked.public_id, locked.digest) if overlap_seconds else (None, "")
        ApiToken.objects.filter(pk=token.pk).update(
            public_id=public_id,
            digest=digest,
            rotated_at=Now(),
            previous_public_id=previous[0],
            previous_digest=previous[1],
            previous_ends_at=from_now(overlap_seconds) if overlap_seconds else None,
            previous_used_at=locked.last_used_at if overlap_seconds else None,
            previous_used_address=locked.last_used_address if overlap_seconds else None,
            last_used_at=None,
            last_used_address=None,
        )
        data = {"overlap_seconds": overlap_seconds, "before": locked.prefix}
        audit(actor, "token.rotated", f"token:{token.pk}", token.name, data=data)
        announce(locked, "rotated")
    token.refresh_from_db()
    return token, clear_text


def end_overlap(actor: Actor, token: ApiToken) -> None:
    """Refuse the secret before the last rotation from now on. Once it has ended this does nothing.

    Raises `NotFound`, `Forbidden`.
    """
    require_manage(actor, token)
    with transaction.atomic():
        locked = _locked(token)
        if locked.previous_public_id is None:
            return
        ApiToken.objects.filter(pk=token.pk).update(
            previous_public_id=None, previous_digest="", previous_ends_at=None
        )
        data = {"secret": f"orc_{locked.previous_public_id}"}
        audit(actor, "token.overlap_ended", f"token:{token.pk}", token.name, data=data)
        announce(locked, "changed")


def _locked(token: ApiToken) -> ApiToken:
    return ApiToken.objects.select_for_update().select_related(None).get(pk=token.pk)
