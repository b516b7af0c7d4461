from __future__ import annotations

from typing import TYPE_CHECKING

import structlog
from django.db import transaction
from django.utils.functional import SimpleLazyObject

from accounts.actors import Actor
from accounts.audit import audit
from orchestrator.addresses import of_client

if TYPE_CHECKING:
    from collections.abc import Callable

    from django.http import HttpRequest, HttpResponse

    from orchestrator.refusals import Refusal


def actor_of(request: HttpRequest) -> Actor:
    """Return who asks by this request's session. API requests get theirs from their token."""
    user = request.user if request.user.is_authenticated else None
    return Actor(
        user=user,
        address=of_client(request.META.get("REMOTE_ADDR", "")),
        request_id=str(structlog.contextvars.get_contextvars().get("request_id", "")),
    )


def audit_page_refusal(request: HttpRequest, refusal: Refusal) -> None:
    """Record that a signed-in person was refused a page or its verb, after the verb's rollback."""
    actor = actor_of(request)
    match = request.resolver_match
    if actor.user is None or match is None:
        return
    subject = next(iter(match.kwargs.values()), "")
    with transaction.atomic():
        audit(
            actor,
            f"page.{match.view_name}"[:60],
            f"{match.app_name or 'page'}:{subject}"[:80],
            data={"code": refusal.code, "reason": refusal.message, "method": request.method},
            refused=True,
        )


class ActorMiddleware:
    """Sets `request.actor`, made when it is first asked for, and `request.on_refusal`."""

    def __init__(self, get_response: Callable[[HttpRequest], HttpResponse]) -> None:
        self.get_response = get_response

    def __call__(self, request: HttpRequest) -> HttpResponse:
        request.actor = SimpleLazyObject(lambda: actor_of(request))  # type: ignore[attr-defined]
        request.on_refusal = audit_page_refusal  # type: ignore[attr-defined]
        return self.get_response(request)
