"""Who asks: a token, or a session of the console with its CSRF token."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any

import structlog
from django.db import transaction
from rest_framework import authentication
from rest_framework.exceptions import AuthenticationFailed, PermissionDenied

from accounts.actors import Actor
from accounts.audit import audit
from accounts.models import User
from accounts.restrictions import WrongNetwork
from accounts.tokens import find_live, note_use
from orchestrator.addresses import of_client

if TYPE_CHECKING:
    from django.http import HttpRequest
    from rest_framework.request import Request

    from accounts.models import ApiToken

SCHEME = "Bearer"


class TokenAuthentication(authentication.BaseAuthentication):
    """`Authorization: Bearer <token>`. Every failure sounds the same."""

    def authenticate(self, request: Request) -> tuple[User, ApiToken] | None:
        header = request.META.get("HTTP_AUTHORIZATION", "")
        scheme, _, text = header.partition(" ")
        if scheme.lower() != SCHEME.lower():
            return None
        address = of_client(request.META.get("REMOTE_ADDR", ""))
        try:
            readable = text.isascii() and "\0" not in text
            token = find_live(text.strip(), address) if readable else None
        except WrongNetwork as refusal:
            _introduce(request, refusal.token.user, refusal.token)  # so that it is audited
            raise
        if token is None:
            raise AuthenticationFailed(
                "This token is not valid: it is unknown, expired or revoked. Use a live one.",
                code="bad_token",
            )
        _introduce(request, token.user, token)
        note_use(token, address)
        return token.user, token

    def authenticate_header(self, request: Request) -> str:
        return SCHEME


class SessionAuthentication(authentication.SessionAuthentication):
    """A session of the console. Writes need the CSRF token."""

    def authenticate(self, request: Request) -> tuple[User, None] | None:
        user = getattr(request._request, "user", None)
        if not isinstance(user, User) and not getattr(user, "is_authenticated", False):
            return None
        assert user is not None
        if not user.is_active or user.kind != User.Kind.PERSON:
            return None
        self.enforce_csrf(request)
        _introduce(request, user, None)
        return user, None

    def enforce_csrf(self, request: Request) -> None:
        try:
            super().enforce_csrf(request)
        except PermissionDenied:
            raise PermissionDenied(
                "The CSRF token is missing or wrong. Send it as X-CSRFToken, or use an API token.",
                code="csrf_failed",
            ) from None


def _introduce(request: Request, user: User, token: ApiToken | None) -> Actor:
    """Set `request.actor`, and what the error handler calls when the actor is refused."""
    actor = Actor(
        user=user,
        token=token,
        address=of_client(request.META.get("REMOTE_ADDR", "")),
        request_id=str(structlog.contextvars.get_contextvars().get("request_id", "")),
    )
    wrapped: HttpRequest = request._request
    wrapped.actor = actor  # type: ignore[attr-defined]
    wrapped.on_refusal = partial(audit_refusal, actor)  # type: ignore[attr-defined]
    return actor


def audit_refusal(actor: Actor, view: Any, code: str, detail: str) -> None:
    """Record that `actor` was refused what the request of `view` asked, in an own transaction."""
    from orchestrator.api.schema import operation_of
    from orchestrator.api.views import Lists

    request = view.request
    match = request.resolver_match
    words = operation_of(
        match.route if match else request.path,
        request.method,
        listing=isinstance(view, Lists),
    )
    model = getattr(view, "model", None)
    kind = model._meta.model_name if model else "api"
    subject = f"{kind}:{view.kwargs.get('id', '')}"
    with transaction.atomic():
        audit(
            actor,
            ".".join(words)[:60],
            subject[:80],
            data={"code": code, "reason": detail},
            refused=True,
        )
