"""Sign-ins in the audit trail: who, from where, by what; never what was typed."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import structlog
from allauth.account.internal.flows.login import get_authentication_records
from django.db import transaction

from accounts.actors import Actor
from accounts.audit import audit
from orchestrator.addresses import of_client

if TYPE_CHECKING:
    from django.http import HttpRequest

    from accounts.models import User

WORDS = {
    "password": "password",
    "password_reset": "password reset",
    "socialaccount": "single sign-on",
    "totp": "authenticator",
    "webauthn": "security key",
    "recovery_codes": "recovery code",
}


def method_of(request: HttpRequest, user: User) -> str:
    """Return how the session was begun: “password, authenticator”."""
    words = []
    for record in get_authentication_records(request, user):
        word = WORDS.get(str(record.get("type") or record["method"]), str(record["method"]))
        if record.get("passwordless"):
            word = "passkey"
        if word not in words:
            words.append(word)
    return ", ".join(words)


def asker(request: HttpRequest, user: User | None = None, *, system: bool = False) -> Actor:
    """Return `user`, a stranger, or the product (`system`) at the address of this request."""
    return Actor(
        user=user,
        system=system,
        address=of_client(request.META.get("REMOTE_ADDR", "")),
        request_id=str(structlog.contextvars.get_contextvars().get("request_id", "")),
    )


def note(
    request: HttpRequest,
    action: str,
    user: User | None,
    *,
    refused: bool = False,
    known: bool = True,
    **data: Any,
) -> None:
    """Record something about signing in. `known`: it is the person who did it, and nobody else.

    A name that no account has is not repeated: people type passwords there.
    """
    with transaction.atomic():
        audit(
            asker(request, user if known else None),
            action,
            f"user:{user.pk if user else ''}",
            user.username if user else "",
            data=data,
            refused=refused,
        )
