from __future__ import annotations

from typing import TYPE_CHECKING

import structlog

from orchestrator.web import errors

if TYPE_CHECKING:
    from collections.abc import Callable

    from django.http import HttpRequest, HttpResponse

log = structlog.get_logger(__name__)


# A page uses nothing of the device but passkeys; nor does what somebody puts a link to.
PERMISSIONS_POLICY = ", ".join(
    [
        *(
            f"{feature}=()"
            for feature in (
                *("accelerometer", "camera", "display-capture", "geolocation"),
                *("gyroscope", "hid", "magnetometer", "microphone", "midi", "payment", "serial"),
                *("usb", "xr-spatial-tracking"),
            )
        ),
        "publickey-credentials-get=(self)",
        "publickey-credentials-create=(self)",
        "clipboard-write=(self)",
    ]
)


class PoliciesMiddleware:
    """Sets the headers that say what a browser may do with an answer, where Django sets none."""

    def __init__(self, get_response: Callable[[HttpRequest], HttpResponse]) -> None:
        self.get_response = get_response

    def __call__(self, request: HttpRequest) -> HttpResponse:
        response = self.get_response(request)
        response.headers.setdefault("Permissions-Policy", PERMISSIONS_POLICY)
        response.headers.setdefault("Cross-Origin-Resource-Policy", "same-origin")
        return response


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
