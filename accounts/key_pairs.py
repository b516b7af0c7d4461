"""Tokens of the kind *key pair*: the maker chooses key and secret. For tools that send `X-Api-Key`.

They are API tokens in all else: of one account, which they can only narrow, with scopes, expiry and
revocation. Only the digest of the secret is kept.
"""

from __future__ import annotations

import base64
import binascii
import hmac
import secrets
from typing import TYPE_CHECKING

from django.db import IntegrityError, transaction
from django.utils.crypto import salted_hmac

from accounts.models import ApiToken, User
from accounts.restrictions import check_network
from accounts.tokens import PREFIX, create_token, find_live
from accounts.tries import count_failure, refuse_after_many
from orchestrator.refusals import Conflict, Invalid

if TYPE_CHECKING:
    from collections.abc import Sequence
    from datetime import datetime
    from uuid import UUID

    from accounts.actors import Actor


def normal_key(key: str) -> str:
    """Return a key as it is stored and sent: in capitals, blanks as `_`."""
    return "_".join(key.upper().split())


def encoded(key: str, secret: str) -> str:
    """Return what a client sends in `X-Api-Key`."""
    return base64.b64encode(f"{key}:{secret}".encode()).decode()


def new_secret() -> str:
    """Return a secret for those who choose none."""
    return secrets.token_urlsafe(32)


def create_key_pair(
    actor: Actor,
    *,
    name: str,
    key: str,
    secret: str,
    scopes: Sequence[str] = ("admin",),
    user: User | None = None,
    templates: Sequence[UUID] | None = None,
    networks: Sequence[str] | None = None,
    maximum_vms: int | None = None,
    expires_at: datetime | None = None,
) -> ApiToken:
    """Make a key pair for `user` (the actor by default). Its `key` is the normalised one.

    Refusals as for `create_token`; `Invalid` for a key or secret that cannot be sent, `Conflict`
    for a key that a live one has.
    """
    key = normal_key(key)
    if not key or len(key) > 100 or ":" in key or not key.isascii() or not key.isprintable():
        raise Invalid.field("key", "Give a key of at most 100 ASCII characters, without a colon.")
    if not secret or ":" in secret or len(secret) > 500:
        raise Invalid.field("secret", "Give a secret of at most 500 characters, without a colon.")
    try:
        with transaction.atomic():
            token, _ = create_token(
                actor,
                name=name,
                scopes=scopes,
                user=user,
                templates=templates,
                networks=networks,
                maximum_vms=maximum_vms,
                expires_at=expires_at,
            )
            token.key = key
            token.digest = _digest(token.public_id, secret)
            token.save(update_fields=["key", "digest"])
    except IntegrityError:
        text = "A key of this name exists. Choose another one."
        raise Conflict(text, code="key_taken", errors={"key": [text]}) from None
    return token


def find_live_pair(text: str, address: str) -> ApiToken | None:
    """Return the live key pair that `text` (base64 of `key:secret`) means, else None.

    With an API token as the secret it is that token, whatever the key: for tools that can send
    nothing but pairs. Its account is active and loaded. `address` is where the request comes from.
    All failures look alike, but for the right secret from a wrong network: that raises
    `WrongNetwork`. Raises `TooManyTries`.
    """
    refuse_after_many(address)
    token = _find(text, address)
    if token is None:
        count_failure(address)
    return token


def _find(text: str, address: str) -> ApiToken | None:
    try:
        key, _, secret = base64.b64decode(text.strip(), validate=True).decode().partition(":")
    except (binascii.Error, ValueError):
        return None
    if "\0" in key + secret:
        return None
    if secret.isascii() and secret.startswith(f"{PREFIX}_"):
        return find_live(secret, address)
    token = (
        ApiToken.objects.live()
        .filter(key=normal_key(key), user__is_active=True)
        .select_related("user")
        .first()
    )
    expected = token.digest if token else "0" * 64
    given = _digest(token.public_id if token else "", secret)
    if not token or not hmac.compare_digest(expected, given):
        return None
    check_network(token, address)
    return token


def _digest(public_id: str, secret: str) -> str:
    return salted_hmac(f"accounts.key_pairs.{public_id}", secret, algorithm="sha256").hexdigest()
