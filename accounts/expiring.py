"""Telling that tokens are about to expire: once for each, as an event that webhooks carry."""

from __future__ import annotations

from django.conf import settings
from django.db import transaction
from django.db.models.functions import Now

from accounts.models import ApiToken
from accounts.tokens import announce
from orchestrator.db.clock import from_now

BATCH = 200
DAY_SECONDS = 86_400


def warn() -> int:
    """Publish `token.expiring` for tokens that end within `TOKEN_WARNING_DAYS`; return how many.

    Safe to run twice at once: the UPDATE decides who tells.
    """
    if not settings.TOKEN_WARNING_DAYS:
        return 0
    soon = from_now(settings.TOKEN_WARNING_DAYS * DAY_SECONDS)
    due = ApiToken.objects.live().filter(expires_at__lte=soon, expiry_warned_at=None)
    told = 0
    for token in due.filter(user__is_active=True).select_related("user")[:BATCH]:
        with transaction.atomic():
            if not due.filter(pk=token.pk).update(expiry_warned_at=Now()):
                continue
            assert token.expires_at
            announce(
                token,
                "expiring",
                {"account": token.user.username, "expires_at": token.expires_at.isoformat()},
            )
            told += 1
    return told
