from __future__ import annotations

from typing import TYPE_CHECKING

import structlog

from orchestrator.web import errors

if TYPE_CHECKING:
    from collections.abc import Callable

    from django.http import HttpRequest, HttpResponse

log = structlog.get_logger(__name__)


class StoreAwayMiddleware:
    """Answers 503 with `Retry-After` when a view finds the database away.

    What other middleware finds comes to `orchestrator.web.errors.server_error`, which does so too.
    """

    def __init__(self, get_response: Callable[[HttpRequest], HttpResponse]) -> None:
        self.get_response = get_response

    def __call__(self, request: HttpRequest) -> HttpResponse:
        return self.get_response(request)

    def process_exception(self, request: HttpRequest, exception: Exception) -> HttpResponse | None:
        """Return the answer for a store that is away; None leaves the exception to Django."""
        if not errors.is_store_away(exception):
            return None
        log.warning("store.away", path=request.path, error=str(exception))
        return errors.store_away(request, exception)
