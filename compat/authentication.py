"""Who asks: a bearer token, an API key, or nobody."""

from __future__ import annotations

from typing import TYPE_CHECKING

import structlog

from accounts import access_tokens
from accounts.actors import Actor
from accounts.key_pairs import find_live_pair
from accounts.restrictions import WrongNetwork
from accounts.tokens import find_live, note_use
from compat.wire.errors import Unauthorized
from orchestrator.addresses import of_client
from orchestrator.web.waiting import is_inner

if TYPE_CHECKING:
    from django.http import HttpRequest

    from accounts.models import ApiToken, User

NO_CREDENTIALS = (
    "API key must be in format base64(key:secret). Send it as X-Api-Key, or send a token as "
    "“Authorization: Bearer …”."
)
BAD_TOKEN = "This token is not valid: it is unknown, expired or revoked. Log in again."
SECOND_FACTOR = (
    "Your role asks for a second factor, which cannot be asked for here. Make an API token in the "
    "console, and log in with that as the password."
)
BAD_KEY = "This API key is not valid: it is unknown, expired or revoked. Use a live one."


def stranger(request: HttpRequest) -> Actor:
    """Return the actor of a request whose credentials were not looked at."""
    return Actor(
        user=None,
        address=of_client(request.META.get("REMOTE_ADDR", "")),
        request_id=str(structlog.contextvars.get_contextvars().get("request_id", "")),
    )


def authenticate(actor: Actor, request: HttpRequest, *, token_in_query: bool) -> None:
    """Let `actor`, so far a stranger, be who asks with this request.

    Raises `Unauthorized`, or `WrongNetwork`, then with the actor as whose token it was.
    """
    in_query = request.GET.get("access_token") or request.GET.get("authorization") or ""
    try:
        actor.user, actor.token = identify(
            request.headers.get("Authorization", ""),
            request.headers.get("X-Api-Key", ""),
            in_query if token_in_query else "",
            address=actor.address,
            began_before=is_inner(request),
        )
    except WrongNetwork as refusal:
        actor.user, actor.token = refusal.token.user, refusal.token
        raise
    if not lets_in(actor):
        raise Unauthorized(SECOND_FACTOR)
    if actor.token:
        note_use(actor.token, actor.address)


def lets_in(actor: Actor) -> bool:
    """Return whether a login by password alone is enough: not once a role asks for more."""
    return actor.token is not None or not actor.needs_second_factor


def identify(
    authorization: str, api_key: str, in_query: str, *, address: str, began_before: bool = False
) -> tuple[User, ApiToken | None]:
    """Return the account behind credentials, and the token that narrows it.

    The arguments are the two headers, the token of a query where that is read, and where the
    request comes from; with `began_before` it belongs to a call that is held. Exactly one kind of
    credentials is allowed per request. `X-Claims`, `X-Roles`, `X-Super-User` and the like, by which
    servers of the original trust one another, count for nothing. Raises `Unauthorized`,
    `WrongNetwork`.
    """
    if authorization and api_key:
        raise Unauthorized("")
    if api_key:
        pair = find_live_pair(api_key, address) if api_key.isascii() else None
        if pair is None:
            raise Unauthorized(BAD_KEY)
        return pair.user, pair
    scheme, _, text = authorization.partition(" ") if authorization else ("bearer", "", in_query)
    if scheme.lower() != "bearer":
        raise Unauthorized("")
    text = text.strip()
    if not text:
        raise Unauthorized(NO_CREDENTIALS)
    if not text.isascii() or "\0" in text:
        raise Unauthorized(BAD_TOKEN)
    if access := access_tokens.read(text, address, began_before=began_before):
        return access.user, access.key
    if token := find_live(text, address):
        return token.user, token
    raise Unauthorized(BAD_TOKEN)
