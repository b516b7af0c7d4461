"""Who may come in by single sign-on, and as which account."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any, NoReturn

import requests
import structlog
from allauth.core.exceptions import ImmediateHttpResponse
from allauth.socialaccount.adapter import DefaultSocialAccountAdapter
from allauth.socialaccount.adapter import _build_apps_from_settings as apps_of_settings
from allauth.socialaccount.models import SocialAccount
from allauth.socialaccount.providers.base import AuthError
from django.conf import settings
from django.db import transaction
from django.shortcuts import render

from accounts.audit import audit
from accounts.models import User
from accounts.signin import trail
from accounts.sso.client import Session
from accounts.sso.errors import SsoError
from accounts.sso.provider import PROVIDER_ID, SsoProvider
from accounts.sso.roles import SOURCE, provide, roles_of
from accounts.users import create_user
from orchestrator.refusals import Conflict, Forbidden, Refusal

if TYPE_CHECKING:
    from allauth.socialaccount.models import SocialApp, SocialLogin
    from django.http import HttpRequest

    from accounts.actors import Actor

log = structlog.get_logger(__name__)
NOT_A_NAME = re.compile(r"[^\w.@+-]+")


class SocialAdapter(DefaultSocialAccountAdapter):
    """allauth's social accounts, narrowed to the one provider of the settings."""

    def list_apps(
        self, request: HttpRequest, provider: Any = None, client_id: Any = None
    ) -> list[SocialApp]:
        """Return the provider of the settings; none is ever made in the database."""
        found = apps_of_settings(provider=provider, client_id=client_id)
        return [app for apps in found.values() for app in apps]

    def get_provider(self, request: HttpRequest, provider: Any, client_id: Any = None) -> Any:
        return SsoProvider(request, app=self.get_app(request, PROVIDER_ID, client_id))

    def get_requests_session(self) -> Session:
        return Session()

    def is_open_for_signup(self, request: HttpRequest, sociallogin: SocialLogin) -> bool:
        return False  # `pre_social_login` makes accounts

    def can_authenticate_by_email(self, login: SocialLogin, email: str) -> bool:
        return False  # `pre_social_login` links, without touching the account's password

    def pre_social_login(self, request: HttpRequest, sociallogin: SocialLogin) -> None:
        """Find or make the account, and give it its roles; or refuse, with a page."""
        actor = trail.asker(request, system=True)
        try:
            with transaction.atomic():
                user = self._account(actor, request, sociallogin)
                provide(actor, user, roles_of(sociallogin.claims))
        except Refusal as refusal:
            known = sociallogin.user if sociallogin.is_existing else None
            _refuse(request, refusal.code, refusal.message, account=known)

    def _account(self, actor: Actor, request: HttpRequest, login: SocialLogin) -> User:
        """Return the account of who signs in. Raises a `Refusal`."""
        claims = login.claims
        user: User | None = login.user if login.is_existing else None
        if user is None and settings.OIDC_LINK_BY_EMAIL:
            user = _by_verified_email(claims)
        if user is None and not settings.OIDC_ALLOW_UNKNOWN and not roles_of(claims):
            raise Forbidden(
                f"{settings.OIDC_NAME} knows you, but no group of yours gives access here. Ask an "
                "administrator for an account, or to be put into a group that does.",
                code="sso_unknown",
            )
        user = user or _new(actor, claims)
        if user.kind != User.Kind.PERSON:
            raise Forbidden("This account is not for people.", code="sso_kind")
        if not user.is_active:
            login.user = user
            raise Forbidden(
                "This account was deactivated. Ask an administrator.", code="account_inactive"
            )
        if not login.is_existing:
            login.connect(request, user)
            audit(
                actor,
                "user.linked",
                f"user:{user.pk}",
                user.username,
                data={"issuer": settings.OIDC_ISSUER, "source": SOURCE},
            )
        return user

    def on_authentication_error(
        self,
        request: HttpRequest,
        provider: Any,
        error: Any = None,
        exception: Exception | None = None,
        extra_context: Any = None,
    ) -> NoReturn:
        """Say what is wrong with the provider's answer, and what to do."""
        name = settings.OIDC_NAME
        extra: dict[str, Any] = extra_context or {}
        if isinstance(exception, SsoError):
            code = exception.code
            text = f"What {name} sent cannot be relied on. {exception.message}"
        elif isinstance(exception, requests.RequestException):
            code = "unreachable"
            text = f"{name} does not answer as it should. Try again in a moment."
        elif error == AuthError.CANCELLED:
            code = "denied"
            text = f"{name} says that you, or its administrator, did not allow this sign-in."
        elif exception is None and not extra.get("state"):
            code = "state"
            text = "This sign-in began too long ago, or in another browser. Begin again."
        else:
            code = "provider"
            text = f"{name} refused this sign-in. Its log says why."
        # Of the provider's own words nothing: there may be a token in them.
        log.warning("sso.failed", code=code, error=type(exception).__name__)
        _refuse(request, f"sso_{code}", text)


def _refuse(request: HttpRequest, code: str, text: str, account: User | None = None) -> NoReturn:
    told = {"code": code, "reason": text, "method": SOURCE}
    trail.note(request, "signin.refused", account, refused=True, known=False, **told)
    context = {"title": "You are not signed in", "detail": text}
    raise ImmediateHttpResponse(render(request, "account/refused.html", context, status=403))


def _by_verified_email(claims: dict[str, Any]) -> User | None:
    """Return the one person of the address that the provider has verified."""
    email = claims.get("email")
    if not isinstance(email, str) or not email or claims.get("email_verified") is not True:
        return None
    people = User.objects.filter(email__iexact=email, kind=User.Kind.PERSON)
    found = list(people.order_by("pk")[:2])
    if len(found) > 1:
        raise Conflict(
            "Several accounts have your mail address. Ask an administrator which one is yours.",
            code="sso_ambiguous",
        )
    if found and SocialAccount.objects.filter(user=found[0]).exists():
        raise Conflict(
            "The account with your mail address belongs to another sign-in. Ask an administrator.",
            code="sso_linked",
        )
    return found[0] if found else None


def _new(actor: Actor, claims: dict[str, Any]) -> User:
    """Make an account without a password. Its roles come with `provide`."""
    email = claims.get("email") if claims.get("email_verified") is True else ""
    wanted = claims.get("preferred_username") or email or claims.get("name") or claims["sub"]
    name = NOT_A_NAME.sub("-", str(wanted))[:150]
    if User.objects.filter(username__iexact=name).exists():
        raise Conflict(
            f"There is an account “{name}” already, which does not belong to this sign-in. Ask an "
            "administrator.",
            code="sso_name_taken",
        )
    return create_user(actor, username=name, email=str(email or ""), roles=[], source=SOURCE)
