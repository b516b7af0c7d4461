"""allauth's OpenID Connect provider, stricter: signature, issuer, nonce and subject are checked."""

from __future__ import annotations

import hashlib
import secrets
import time
from typing import TYPE_CHECKING, Any

import requests
from allauth.socialaccount.adapter import get_adapter
from allauth.socialaccount.helpers import render_authentication_error
from allauth.socialaccount.providers.oauth2.client import OAuth2Error
from allauth.socialaccount.providers.oauth2.views import OAuth2CallbackView, OAuth2LoginView
from allauth.socialaccount.providers.openid_connect.provider import OpenIDConnectProvider
from allauth.socialaccount.providers.openid_connect.views import OpenIDConnectOAuth2Adapter
from allauth.utils import build_absolute_uri
from django.conf import settings
from django.urls import reverse

from accounts.sso.client import read_json
from accounts.sso.errors import SsoError
from accounts.sso.tokens import LEEWAY_SECONDS, verified

if TYPE_CHECKING:
    from allauth.socialaccount.models import SocialLogin
    from django.http import HttpRequest, HttpResponse

PROVIDER_ID = "sso"
KEPT_CLAIMS = ("sub", "email", "preferred_username", "name")
ENDPOINTS = ("authorization_endpoint", "token_endpoint", "jwks_uri")


class SsoAdapter(OpenIDConnectOAuth2Adapter):
    """One sign-in's talk with the provider."""

    state: dict[str, Any]

    def __init__(self, request: HttpRequest, provider_id: str = PROVIDER_ID) -> None:
        super().__init__(request, provider_id)

    @property
    def openid_config(self) -> dict[str, Any]:
        """Return the provider's discovery document. Raises `SsoError`, `RequestException`."""
        if not hasattr(self, "_openid_config"):
            with get_adapter().get_requests_session() as session:
                found = dict(read_json(session.get(self.get_provider().server_url)))
            if found.get("issuer") != settings.OIDC_ISSUER:
                raise SsoError("issuer", "Its discovery document names another issuer.")
            if missing := [name for name in ENDPOINTS if not isinstance(found.get(name), str)]:
                raise SsoError("discovery", f"Its discovery document lacks {', '.join(missing)}.")
            self._openid_config = found
        return self._openid_config

    def get_callback_url(self, request: HttpRequest, app: Any) -> str:
        path = reverse("sso_callback")
        url: str = settings.PUBLIC_URL + path if settings.PUBLIC_URL else ""
        return url or build_absolute_uri(request, path)

    def complete_login(
        self, request: HttpRequest, app: Any, token: Any, **kwargs: Any
    ) -> SocialLogin:
        """Return who signed in; `claims` of it is all that the provider says about them."""
        id_token = kwargs["response"].get("id_token")
        if not isinstance(id_token, str):
            raise SsoError("token", "It sent no ID token. Is the scope “openid” missing?")
        with get_adapter().get_requests_session() as session:
            keys = dict(read_json(session.get(self.openid_config["jwks_uri"])))
        claims = verified(
            id_token,
            keys=keys,
            issuer=settings.OIDC_ISSUER,
            client_id=app.client_id,
            nonce=str(self.state.get("nonce", "")),
        )
        if self.openid_config.get("userinfo_endpoint"):
            told = dict(read_json(self._ask_about(token.token)))
            if told.get("sub") != claims["sub"]:
                raise SsoError("subject", "It tells about another person than who signed in.")
            claims = {**told, **claims}
        if self.state.get("afresh"):
            _check_fresh(claims)
        login: SocialLogin = self.get_provider().sociallogin_from_response(
            request, {"id_token": claims}
        )
        login.claims = claims
        return login

    def _ask_about(self, access_token: str) -> requests.Response:
        headers = {"Authorization": f"Bearer {access_token}"}
        with get_adapter().get_requests_session() as session:
            answer: requests.Response = session.get(self.profile_url, headers=headers)
            return answer


def _check_fresh(claims: dict[str, Any]) -> None:
    """Raise `SsoError` when the provider admits that it did not ask who is there.

    Some do not say (no `auth_time`, though whoever asks with `max_age` is owed it): then it is the
    provider's own matter.
    """
    at = claims.get("auth_time")
    if isinstance(at, int | float) and time.time() - at > 5 * LEEWAY_SECONDS:
        raise SsoError("auth_time", "It did not ask again who you are (claim “auth_time”).")


class SsoProvider(OpenIDConnectProvider):
    """The provider of the settings."""

    oauth2_adapter_class = SsoAdapter

    def get_redirect_from_request_kwargs(self, request: HttpRequest) -> dict[str, Any]:
        """Take nothing but where to go on from the address: no scopes, no parameters."""
        from allauth.account.utils import get_next_redirect_url

        kwargs: dict[str, Any] = {"process": "login", "afresh": "afresh" in request.POST}
        if url := get_next_redirect_url(request):
            kwargs["next_url"] = url
        return kwargs

    def redirect(self, request: HttpRequest, process: str, **kwargs: Any) -> HttpResponse:
        nonce = secrets.token_urlsafe(32)
        parameters = {"nonce": nonce}
        if kwargs.get("afresh"):
            parameters |= {"prompt": "login", "max_age": "0"}
        try:
            answer: HttpResponse = super().redirect(
                request, process, auth_params=parameters, nonce=nonce, **kwargs
            )
        except (OAuth2Error, requests.RequestException) as error:
            answer = render_authentication_error(request, self, exception=error)
        return answer

    def extract_uid(self, data: dict[str, Any]) -> str:
        """Name a person by issuer and subject: another provider may have the same subjects."""
        named = f"{settings.OIDC_ISSUER} {data['id_token']['sub']}"
        return hashlib.sha256(named.encode()).hexdigest()

    def extract_extra_data(self, data: dict[str, Any]) -> dict[str, Any]:
        claims = data["id_token"]
        return {name: claims[name] for name in KEPT_CLAIMS if name in claims}


class LoginView(OAuth2LoginView):
    """The way to the provider."""

    request: HttpRequest


class CallbackView(OAuth2CallbackView):
    """The way back; it hands what was kept of the way there to the adapter."""

    def _get_state(self, request: HttpRequest, provider: Any) -> Any:
        state, answer = super()._get_state(request, provider)
        self.adapter.state = state or {}
        return state, answer
