from __future__ import annotations

from http import HTTPStatus
from typing import TYPE_CHECKING, Any
from urllib.parse import urlencode

from allauth.account.adapter import get_adapter
from django.conf import settings
from django.http import HttpResponse, HttpResponseRedirect
from django.urls import reverse

from accounts.signin import assurance, sessions
from accounts.signin.dangerous import is_dangerous

if TYPE_CHECKING:
    from collections.abc import Callable

    from django.http import HttpRequest

# They answer without the store, so nobody is looked up for them.
PROBES = ("healthz", "readyz")
# Where somebody proves what they have; and what else one without the second factor may do.
PROOFS = {
    "account_login",
    "account_reauthenticate",
    "accounts:confirm",
    "accounts:second-factor",
    "mfa_authenticate",
    "mfa_login_webauthn",
    "mfa_reauthenticate",
    "mfa_reauthenticate_webauthn",
    "sso_callback",
    "sso_login",
}
GETTING = {"account_logout", "mfa_activate_totp", "mfa_add_webauthn", "mfa_index"}


class LastSeenMiddleware:
    """Notes, at most once a minute, when and from where a session was used last."""

    def __init__(self, get_response: Callable[[HttpRequest], HttpResponse]) -> None:
        self.get_response = get_response

    def __call__(self, request: HttpRequest) -> HttpResponse:
        return self.get_response(request)

    def process_view(self, request: HttpRequest, *_: Any) -> None:
        if _name(request) in PROBES or not request.session.session_key:
            return
        if request.user.is_authenticated:
            sessions.note_use(request)


class AssuranceMiddleware:
    """Asks a session of the console for a second factor, or a fresh proof, before a page.

    The API asks by itself, once it knows whether a token or a session calls.
    """

    def __init__(self, get_response: Callable[[HttpRequest], HttpResponse]) -> None:
        self.get_response = get_response

    def __call__(self, request: HttpRequest) -> HttpResponse:
        return self.get_response(request)

    def process_view(self, request: HttpRequest, *_: Any) -> HttpResponse | None:
        name = _name(request)
        if name in PROBES or request.path.startswith("/api/"):
            return None
        if not request.user.is_authenticated:
            return None
        if name not in PROOFS and _lacks_second_factor(request, name):
            return _to(request, reverse("accounts:second-factor"))
        if is_dangerous(request) and not _is_fresh_enough(request):
            return _to(request, where_to_prove(request))
        return None


def _lacks_second_factor(request: HttpRequest, name: str) -> bool:
    """Return whether this page needs a second factor that the session has not seen.

    Whoever has one needs it to change them: else a session from before it, or a stolen password
    that found one, would add another and be as good.
    """
    if assurance.has_second_factor(request.session):
        return False
    if name.startswith("mfa_") and name != "mfa_index" and assurance.has_one(request.user):
        return True
    needs: bool = request.actor.needs_second_factor  # type: ignore[attr-defined]
    return needs and name not in GETTING


def _name(request: HttpRequest) -> str:
    match = request.resolver_match
    return match.view_name if match else ""


def where_to_prove(request: HttpRequest) -> str:
    """Return the page where the person can prove who they are, by what they have."""
    methods = get_adapter(request).get_reauthentication_methods(request.user)
    return methods[0]["url"] if methods else reverse("accounts:confirm")


def _is_fresh_enough(request: HttpRequest) -> bool:
    """Return whether the proof is fresh. A form is shown only if there is time to fill it in.

    So nothing that was typed is lost, and nothing of it (a password) has to be kept meanwhile.
    """
    left = 0.5 if request.method in ("GET", "HEAD") else 1.0
    return assurance.is_fresh(request.session, settings.REAUTHENTICATION_SECONDS * left)


def _to(request: HttpRequest, url: str) -> HttpResponse:
    """Send the browser to `url`, and from there back to where it is."""
    htmx = getattr(request, "htmx", None)
    came_from = request.get_full_path()
    if htmx:
        came_from = htmx.current_url_abs_path or "/"
    elif request.method not in ("GET", "HEAD"):
        came_from = request.path
    url = f"{url}?{urlencode({'next': came_from})}"
    if htmx:
        return HttpResponse(status=HTTPStatus.UNAUTHORIZED, headers={"HX-Redirect": url})
    return HttpResponseRedirect(url)
