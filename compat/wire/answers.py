"""What goes out: exactly `application/json`, or nothing at all."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from django.http import HttpResponse, JsonResponse
from django.utils import timezone

if TYPE_CHECKING:
    from collections.abc import Mapping
    from datetime import datetime


def answer(body: Any, status: int = 200) -> HttpResponse:
    """Answer with `body` as JSON. Datetimes and UUIDs in it may stay what they are."""
    return JsonResponse(body, status=status, safe=False)


def empty(status: int = 202) -> HttpResponse:
    """Answer without a body, and so without a content type."""
    response = HttpResponse(status=status)
    del response["Content-Type"]
    return response


def compact(body: Mapping[str, Any]) -> dict[str, Any]:
    """Return `body` without what is None, "" or empty, as Go's `omitempty` leaves it out.

    Numbers and booleans stay.
    """
    return {key: value for key, value in body.items() if value not in (None, "", [], {})}


def rfc3339(moment: datetime | None) -> str | None:
    """Return a moment as clients parse it: RFC 3339 in UTC; None stays None, never ""."""
    return None if moment is None else moment.isoformat().replace("+00:00", "Z")


def common_error(status: int, message: str) -> dict[str, Any]:
    """Return the first of the three shapes of errors, that of machines, hosts and the catalog."""
    return {"message": message, "code": status}


def diagnostics(status: int, message: str, operation: str) -> dict[str, Any]:
    """Return the second shape, that of accounts. Its `path` would tell of the inside: empty."""
    now = rfc3339(timezone.now())
    error = {
        "code": str(status),
        "message": message,
        "timestamp": now,
        "component": operation.rsplit("/", 1)[-1],
    }
    return {
        "message": message,
        "diagnostics": {
            "operation": operation,
            "start_time": now,
            "end_time": now,
            "path": [],
            "errors": [error],
            "warnings": [],
            "metadata": {},
        },
        "code": status,
    }


def unauthorized(description: str) -> dict[str, Any]:
    """Return the third shape: who asks is unknown, or has not the rights."""
    return {"error": "unauthorized_client", "error_description": description}
