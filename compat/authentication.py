"""Who asks: a bearer token, an API key, or nobody."""

from __future__ import annotations

from typing import TYPE_CHECKING

import structlog

from accounts.actors import Actor
from accounts.tokens import find_live, note_use
from compat.wire.errors import Unauthorized

if TYPE_CHECKING:
    from django.http import HttpRequest

NO_CREDENTIALS = (
    "API key must be in format base64(key:secret). Send it as X-Api-Key, or send a token as "
    "“Authorization: Bearer …”."
)
BAD_TOKEN = "This token is not valid: it is unknown, expired or revoked. Use a live one."


def stranger(request: HttpRequest) -> Actor:
    """Return the actor of a request whose credentials were not looked at."""
    return Actor(
        user=None,
        address=request.META.get("REMOTE_ADDR", ""),
        request_id=str(structlog.contextvars.get_contextvars().get("request_id", "")),
    )


def authenticate(request: HttpRequest, *, token_in_query: bool) -> Actor:
    """Return who asks. Raises `Unauthorized`.

    Exactly one kind of credentials per request; `X-Claims`, `X-Roles`, `X-Super-User` and the
    like, by which servers of the original trust one another, count for nothing.
    """
    authorization = request.headers.get("Authorization", "")
    api_key = request.headers.get("X-Api-Key", "")
    if authorization and api_key:
        raise Unauthorized("")
    if authorization:
        scheme, _, text = authorization.partition(" ")
        if scheme.lower() != "bearer":
            raise Unauthorized("")
    elif token_in_query:
        text = request.GET.get("access_token") or request.GET.get("authorization") or ""
    else:
        text = ""
    text = text.strip()
    if not text or not text.isascii() or "\0" in text:
        raise Unauthorized(NO_CREDENTIALS)
    token = find_live(text)
    if token is None:
        raise Unauthorized(BAD_TOKEN)
    actor = stranger(request)
    actor.user, actor.token = token.user, token
    note_use(token, actor.address)
    return actor
