"""How sure a session is of its person: with a second factor, and proven how long ago."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

from allauth.account.internal.flows.login import AUTHENTICATION_METHODS_SESSION_KEY
from allauth.mfa.models import Authenticator
from allauth.mfa.utils import is_mfa_enabled
from django.conf import settings
from django.contrib.auth import SESSION_KEY

from orchestrator.refusals import Forbidden

if TYPE_CHECKING:
    from collections.abc import Mapping

    from django.http import HttpRequest

    from accounts.models import User

# Keys of the session, beside allauth's list of what was proven in it.
SECOND_FACTOR = "orchestrator_second_factor"
PROVEN_AT = "orchestrator_proven_at"


def second_factor_required() -> Forbidden:
    """Return the refusal of a session without a second factor."""
    return Forbidden(
        "One of your roles asks for a second factor. Set up an authenticator or a passkey, or sign "
        "in with it.",
        code="second_factor_required",
    )


def reauthentication_required() -> Forbidden:
    """Return the refusal of a session whose proof is old."""
    return Forbidden(
        "This needs a fresh proof of who you are. Confirm it at /accounts/reauthenticate/ and "
        "repeat, or use an API token.",
        code="reauthentication_required",
    )


def has_second_factor(session: Mapping[str, Any]) -> bool:
    """Return whether the session was begun, or confirmed, with a second factor or a passkey.

    A provider's word counts if the settings say so (`OIDC_SECOND_FACTOR`).
    """
    return bool(session.get(SECOND_FACTOR)) or any(
        record.get("method") == "mfa" for record in _records(session)
    )


def has_one(user: Any) -> bool:
    """Return whether the person has set up a second factor."""
    return bool(is_mfa_enabled(user, [Authenticator.Type.TOTP, Authenticator.Type.WEBAUTHN]))


def is_fresh(session: Mapping[str, Any], seconds: float | None = None) -> bool:
    """Return whether the person proved who they are within `REAUTHENTICATION_SECONDS`."""
    limit = settings.REAUTHENTICATION_SECONDS if seconds is None else seconds
    return time.time() - proven_at(session) < limit


def proven_at(session: Mapping[str, Any]) -> float:
    """Return when the person last proved who they are, as a Unix time; 0 when that is not known.

    What a provider says counts by its own clock: who has been signed in there since this morning
    has proven nothing now. One that does not say vouches for the moment of the sign-in.
    """
    local = [
        record["at"] for record in _records(session) if record.get("method") in ("password", "mfa")
    ]
    return max([session.get(PROVEN_AT, 0.0), *local])


def note_provider(request: HttpRequest, claims: Mapping[str, Any]) -> None:
    """Keep in the session what the provider says about how and when the person was proven."""
    said = {claims.get("acr"), *(claims.get("amr") or [])}
    if said & set(settings.OIDC_SECOND_FACTOR):
        request.session[SECOND_FACTOR] = True
    at, now = claims.get("auth_time"), time.time()
    request.session[PROVEN_AT] = min(float(at), now) if isinstance(at, int | float) else now


def _records(session: Mapping[str, Any]) -> list[dict[str, Any]]:
    stored = session.get(AUTHENTICATION_METHODS_SESSION_KEY)
    whose = session.get("account_authentication_methods_user")
    if not isinstance(stored, list) or whose != session.get(SESSION_KEY):
        return []
    return stored


def forget_lost_factor(request: HttpRequest, user: User) -> None:
    """Let the session count as one without a second factor when its person has none any more."""
    if has_one(user):
        return
    request.session.pop(SECOND_FACTOR, None)
    records = [record for record in _records(request.session) if record.get("method") != "mfa"]
    request.session[AUTHENTICATION_METHODS_SESSION_KEY] = records
