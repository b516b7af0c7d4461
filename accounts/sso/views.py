"""The way to the provider and back."""

from __future__ import annotations

from http import HTTPStatus
from typing import TYPE_CHECKING

from allauth.core.internal import ratelimit
from django.conf import settings
from django.http import Http404
from django.shortcuts import render
from django.views.decorators.cache import never_cache
from django.views.decorators.http import require_GET, require_POST

from accounts.sso.provider import CallbackView, LoginView, SsoAdapter

if TYPE_CHECKING:
    from django.http import HttpRequest, HttpResponse


@never_cache
@require_POST
def login(request: HttpRequest) -> HttpResponse:
    """Send the browser to the provider.

    By a page of our own: a redirect of a form leads where `form-action` of our content policy does
    not allow, and which further addresses a provider sends people to is not known here.
    """
    _need_provider()
    if limited := ratelimit.consume_or_429(request, app="allauth.account", action="login"):
        return limited
    answer: HttpResponse = LoginView.adapter_view(SsoAdapter(request))(request)
    if answer.status_code == HTTPStatus.FOUND:
        context = {"url": answer["Location"], "name": settings.OIDC_NAME}
        answer = render(request, "account/leaving.html", context)
    return answer


@never_cache
@require_GET
def callback(request: HttpRequest) -> HttpResponse:
    """Sign in who comes back from the provider."""
    _need_provider()
    answer: HttpResponse = CallbackView.adapter_view(SsoAdapter(request))(request)
    return answer


def _need_provider() -> None:
    if not settings.OIDC_ISSUER:
        raise Http404("There is no single sign-on.")
