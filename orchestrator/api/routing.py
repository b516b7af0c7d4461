"""How rooms write their routes below `/api/v2/`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from django.urls import URLPattern
from django.urls.resolvers import RoutePattern

if TYPE_CHECKING:
    from orchestrator.api.views import ApiView


class EitherSpelling(RoutePattern):
    """A route that ends in a slash and answers without it too. A redirect would lose a POST."""

    def match(self, path: str) -> Any:
        return super().match(path if path.endswith("/") else f"{path}/")


def route(spelling: str, view: type[ApiView], name: str) -> URLPattern:
    """Return the route of an endpoint, relative to `/api/v2/`. Reversed as `api:<name>`."""
    pattern = EitherSpelling(spelling, name=name, is_endpoint=True)
    return URLPattern(pattern, view.as_view(), None, name)
