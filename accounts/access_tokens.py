"""Access tokens of the compatible API: JWTs that live for minutes, with nothing stored for each.

A token tells who asks, and nothing that counts otherwise: account and rights are read at each use.
It ends before its time with the account's password, its deactivation, the key it was exchanged for,
and whatever else ends the account's sessions.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any
from uuid import UUID, uuid4

import jwt
from allauth.account.adapter import get_adapter
from allauth.mfa.utils import is_mfa_enabled
from django.conf import settings
from django.core.exceptions import ValidationError
from django.db import transaction
from django.utils.crypto import constant_time_compare, salted_hmac

from accounts.actors import Actor
from accounts.audit import audit
from accounts.claims import claims_of, role_names_of
from accounts.models import ApiToken, User
from accounts.restrictions import check_network
from accounts.tokens import PREFIX, find_live
from accounts.tries import TooManyTries
from orchestrator.refusals import Forbidden, NotFound

if TYPE_CHECKING:
    from django.http import HttpRequest

SECONDS = 15 * 60
ALGORITHM = "HS256"
_REQUIRED = ["exp", "jti", "uid", "stamp"]


@dataclass(frozen=True)
class AccessToken:
    """A live token: whose it is, and the key that it was exchanged for, if any."""

    user: User
    key: ApiToken | None


def log_in(
    request: HttpRequest, actor: Actor, login: str, password: str
) -> tuple[User, ApiToken | None]:
    """Return the account with this name or mail address and password, and what narrows it.

    An API token of the account may take the place of its password, for tools that can send nothing
    else. Failures count with those of the console, so that either locks both. Raises `NotFound`
    for a wrong name or password, `TooManyTries`, `WrongNetwork`, and `Forbidden` for somebody who
    signs in with a second factor, which this API cannot ask for.
    """
    readable = password.isascii() and password.startswith(f"{PREFIX}_")
    token = find_live(password, actor.address) if readable else None
    if token and login.casefold() in (token.user.username.casefold(), token.user.email.casefold()):
        return token.user, token
    user = find_by_login(login)
    try:
        found = get_adapter().authenticate(
            request, username=user.username if user else login, password=password
        )
    except ValidationError:
        raise TooManyTries("Too many logins failed. Wait some minutes and try again.") from None
    if found is None or not found.is_active:
        _audit_failure(actor, user, "bad_login")
        raise NotFound("Invalid user or Password")
    if needs_second_factor(found):
        _audit_failure(actor, found, "second_factor")
        raise Forbidden(
            "This account signs in with a second factor, which cannot be asked for here. Make an "
            "API token in the console, and give that as the password.",
            code="second_factor",
        )
    return found, None


def find_by_login(login: str) -> User | None:
    """Return the active person of this name, or the only one with this mail address."""
    people = User.objects.filter(kind=User.Kind.PERSON, is_active=True)
    if user := people.filter(username__iexact=login).first():
        return user
    by_mail = list(people.filter(email__iexact=login)[:2]) if "@" in login else []
    return by_mail[0] if len(by_mail) == 1 else None


def needs_second_factor(user: User) -> bool:
    """Return whether a password alone does not let this account in: it has one, or has to."""
    return bool(is_mfa_enabled(user)) or Actor(user=user).needs_second_factor


def issue(actor: Actor, user: User, key: ApiToken | None = None) -> tuple[str, int]:
    """Return a new token and when it ends (seconds since 1970).

    `actor` is who asked for it, which only gives the address. With `key`, it can do no more than
    that key. Roles and claims in it are what a client shows, and count for nothing here.
    """
    now = int(time.time())
    rights = Actor(user=user, token=key)
    payload: dict[str, Any] = {
        "email": user.email or user.username,
        "username": user.get_full_name() or user.username,
        "uid": str(user.pk),
        "roles": role_names_of(user),
        "claims": claims_of(rights),
        "iat": now,
        "exp": now + SECONDS,
        "jti": uuid4().hex,
        "stamp": _stamp(user),
    }
    if key:
        payload["api_key_id"] = str(key.pk)
    with transaction.atomic():
        audit(
            Actor(user=user, token=key, address=actor.address, request_id=actor.request_id),
            "access_token.issued",
            f"user:{user.pk}",
            user.username,
            data={"jti": payload["jti"], "by": "key" if key else "password"},
        )
    return jwt.encode(payload, _secret(), algorithm=ALGORITHM), payload["exp"]


def read(text: str, address: str, *, began_before: bool = False) -> AccessToken | None:
    """Return the live token whose text this is, else None. All failures look alike.

    `address` is where the request comes from: `WrongNetwork` when its key may not be used there.
    With `began_before` the token's time may be up: it was live when the call began that is held.
    """
    try:
        payload = jwt.decode(
            text,
            _secret(),
            algorithms=[ALGORITHM],
            options={"require": _REQUIRED, "verify_exp": not began_before},
        )
        user_id = UUID(str(payload["uid"]))
        key_id = UUID(str(payload["api_key_id"])) if "api_key_id" in payload else None
    except (jwt.InvalidTokenError, ValueError):
        return None
    user = User.objects.filter(pk=user_id, is_active=True).first()
    if user is None or not constant_time_compare(str(payload["stamp"]), _stamp(user)):
        return None
    key = None
    if key_id:
        key = ApiToken.objects.live().filter(pk=key_id, user=user).first()
        if key is None:
            return None
        check_network(key, address)
    return AccessToken(user, key)


def _stamp(user: User) -> str:
    """Return what changes with all that ends a session: the password, signing out everywhere."""
    stamp = user.get_session_auth_hash()
    return salted_hmac("accounts.access_tokens.stamp", stamp, algorithm="sha256").hexdigest()[:32]


def _secret() -> bytes:
    """Return the key that signs: the same in every process, and used for nothing else."""
    return salted_hmac("accounts.access_tokens", settings.SECRET_KEY, algorithm="sha256").digest()


def _audit_failure(actor: Actor, user: User | None, code: str) -> None:
    with transaction.atomic():
        audit(
            actor,
            "access_token.refused",
            f"user:{user.pk if user else ''}",
            user.username if user else "",  # people type passwords where names belong
            data={"code": code},
            refused=True,
        )
