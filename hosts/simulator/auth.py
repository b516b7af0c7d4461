"""Credentials of a simulated host (contract 2.0, 2.1, 5.2 and 5.3).

Every host knows one user, ``root@localhost`` with password ``simulated``, and one API key ``sim``
with secret ``sim``. Bearer tokens are JWTs signed with a secret of the host's own.
"""

from __future__ import annotations

import base64
import binascii
import hmac
import json
import os
from enum import Enum
from hashlib import blake2b, sha256
from typing import Any

from hosts.simulator.wire import Request, UnauthorizedError
from hosts.simulator.world import Host

EMAIL = "root@localhost"
USERNAME = "root"
# Documented login of every simulated host; a test that looks for it everywhere plants its own.
PASSWORD = os.environ.get("SIMULATOR_PASSWORD", "simulated")
API_KEY = "SIM"
API_SECRET = "sim"  # documented login of every simulated host
TOKEN_SECONDS = 900

_KEY_FORMAT = "API key must be in format base64(key:secret)"


class Caller(Enum):
    """Who calls. A key is nobody: jobs want a user and refuse it (contract 2.5, 2.6)."""

    USER = "user"
    KEY = "key"


def owner_id(host: Host) -> str:
    """Return the id of the host's one user."""
    return blake2b(f"root:{host.uuid}".encode(), digest_size=16).hexdigest()


def issue_token(host: Host) -> dict[str, Any]:
    """Return the answer to a login; ``expires_at`` is by the host's own clock."""
    expires_at = int(host.now()) + TOKEN_SECONDS
    claims = {
        "email": EMAIL,
        "username": "Root",
        "uid": owner_id(host),
        "roles": ["SUPER_USER"],
        "claims": [],
        "exp": expires_at,
        "session": host.sessions,
    }
    head = _encode({"alg": "HS256", "typ": "JWT"}) + b"." + _encode(claims)
    token = head + b"." + _signature(host, head)
    return {"email": EMAIL, "token": token.decode(), "expires_at": expires_at}


def token_is_valid(host: Host, token: str) -> bool:
    """Tell whether this host issued the token, and neither time nor a fault has ended it."""
    head, _, signature = token.encode("utf-8", "replace").rpartition(b".")
    if not hmac.compare_digest(_signature(host, head), signature):
        return False
    claims = json.loads(base64.urlsafe_b64decode(head.partition(b".")[2] + b"=="))
    return bool(claims["exp"] > host.now() and claims["session"] == host.sessions)


def key_is_valid(encoded: str) -> bool:
    """Tell whether this is the host's key; the key part is normalised as the original does it.

    Raises ``UnauthorizedError`` when it is not base64 of ``key:secret``.
    """
    try:
        text = base64.b64decode(encoded, validate=True).decode()
    except (binascii.Error, UnicodeDecodeError, ValueError):
        raise UnauthorizedError(_KEY_FORMAT) from None
    key, colon, secret = text.partition(":")
    if not colon:
        raise UnauthorizedError(_KEY_FORMAT)
    return key.upper().replace(" ", "_") == API_KEY and hmac.compare_digest(
        secret.encode(),
        API_SECRET.encode(),
    )


def authenticate(request: Request) -> Caller:
    """Return who calls; raises ``UnauthorizedError`` with the text the original would send."""
    authorization = request.header(b"authorization")
    key = request.header(b"x-api-key")
    if authorization is not None:
        scheme, _, token = authorization.partition(" ")
        if key is not None or scheme.lower() != "bearer":
            raise UnauthorizedError
        return _bearer(request.host, token, "token is expired or invalid")
    if key is not None:
        if not key_is_valid(key):
            raise UnauthorizedError("Api Key is not valid")
        return Caller.KEY
    in_query = request.query.get("access_token") or request.query.get("authorization")
    return _bearer(request.host, in_query or "", _KEY_FORMAT)


def _bearer(host: Host, token: str, refusal: str) -> Caller:
    if token and host.strikes("authexpired"):
        host.sessions += 1
    if not token_is_valid(host, token):
        raise UnauthorizedError(refusal)
    return Caller.USER


def _encode(value: dict[str, Any]) -> bytes:
    return base64.urlsafe_b64encode(json.dumps(value).encode()).rstrip(b"=")


def _signature(host: Host, head: bytes) -> bytes:
    secret = f"{host.uuid}:{host.k}".encode()
    return base64.urlsafe_b64encode(hmac.digest(secret, head, sha256)).rstrip(b"=")
