"""Whether the server lives, for those who have no token yet. Tells nothing of the inside."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any
from uuid import uuid4

from django.utils import timezone

from compat.wire.answers import answer, rfc3339
from compat.wire.endpoints import Endpoint, route
from orchestrator.web import health

if TYPE_CHECKING:
    from django.http import HttpRequest, HttpResponse


class Root(Endpoint):
    public = ("get", "head")

    def get(self, request: HttpRequest) -> HttpResponse:
        return answer(
            {
                "id": str(uuid4()),
                "timestamp": rfc3339(timezone.now()),
                "message": "Orchestrator, with the Parallels DevOps API",
            }
        )


class Probe(Endpoint):
    """The GitHub Action's first call. It compares the text."""

    public = ("get", "head")

    def get(self, request: HttpRequest) -> HttpResponse:
        return answer({"status": "OK"})


class SystemHealth(Endpoint):
    """Always 200: the GitHub Action asks without a token, and Jenkins wants exactly that.

    Says which part ails, not why: that is for `/readyz`, which a proxy need not let strangers ask.
    """

    public = ("get", "head")

    def get(self, request: HttpRequest) -> HttpResponse:
        checks = {name: told == health.OK for name, told in health.look().items()}
        healthy = all(checks.values())
        body: dict[str, Any] = {
            "healthy": healthy,
            "message": "All services are healthy" if healthy else "Some services are not healthy",
        }
        if request.GET.get("full") == "true":
            body["services"] = [{"name": name, "healthy": ok} for name, ok in checks.items()]
        return answer(body)


urlpatterns = [
    route("health/probe", Probe, "health-probe"),
    route("health/system", SystemHealth, "health-system"),
]
