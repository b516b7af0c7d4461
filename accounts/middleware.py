from __future__ import annotations

from typing import TYPE_CHECKING

import structlog
from django.utils.functional import SimpleLazyObject

from accounts.actors import Actor

if TYPE_CHECKING:
    from collections.abc import Callable

    from django.http import HttpRequest, HttpResponse


def actor_of(request: HttpRequest) -> Actor:
    """Return who asks by this request's session. API requests get theirs from their token."""
    user = request.user if request.user.is_authenticated else None
    return Actor(
        user=user,  # type: ignore[arg-type]
        address=request.META.get("REMOTE_ADDR", ""),
        request_id=str(structlog.contextvars.get_contextvars().get("request_id", "")),
    )


class ActorMiddleware:
    """Sets `request.actor`, made when it is first asked for."""

    def __init__(self, get_response: Callable[[HttpRequest], HttpResponse]) -> None:
        self.get_response = get_response

    def __call__(self, request: HttpRequest) -> HttpResponse:
        request.actor = SimpleLazyObject(lambda: actor_of(request))  # type: ignore[attr-defined]
        return self.get_response(request)
