"""What Django itself answers when there is no view's answer: problems under `/api/`, else pages."""

from __future__ import annotations

import sys
from http import HTTPStatus
from typing import TYPE_CHECKING

import structlog
from django.db import Error, InterfaceError, OperationalError
from django.http import HttpResponse, JsonResponse
from django.template import TemplateDoesNotExist
from django.template.loader import render_to_string

if TYPE_CHECKING:
    from django.http import HttpRequest

log = structlog.get_logger(__name__)

RETRY_AFTER_SECONDS = 2
# SQLite reports a wrong statement or a missing migration with the same class as a missing disk.
_NOT_AWAY = ("no such table", "no such column", "has no column", "syntax error", "no such function")
# In the words of PostgreSQL and of SQLite.
_FULL = ("no space left on device", "disk is full")
STORE_AWAY = (
    "store_away",
    "The database does not answer. Nothing is lost; try again in a moment.",
)
STORE_FULL = (
    "store_full",
    "The database has no room left on its disk, so nothing new can be stored. What is stored is "
    "safe. An administrator must free disk space; then try again.",
)
_TEXTS = {
    400: ("bad_request", "The request cannot be understood. Check the address and try again."),
    403: ("forbidden", "You may not do this. Ask an administrator for a role that does."),
    404: ("not_found", "There is nothing here, or nothing that you may see."),
    429: ("too_many_requests", "Too many tries. Wait a minute, then try again."),
    500: (
        "internal_error",
        "Something went wrong here. The administrators find it in the log by the request id.",
    ),
    503: STORE_AWAY,
}


def is_store_away(error: BaseException | None) -> bool:
    """Return whether the database cannot be reached or used now, whatever the statement.

    A refused row (`IntegrityError`) or a wrong statement is not that.
    """
    if not isinstance(error, (OperationalError, InterfaceError)):
        return False
    text = str(error).lower()
    return not any(part in text for part in _NOT_AWAY)


def why_store_away(error: BaseException | None) -> tuple[str, str]:
    """Return the code and the sentence for an error of the store: it is full, or away."""
    text = str(error).lower()
    return STORE_FULL if any(part in text for part in _FULL) else STORE_AWAY


def bad_request(request: HttpRequest, exception: Exception | None = None) -> HttpResponse:
    """Answer 400. The exception's own text may name what an attacker sent, so it is not shown."""
    return answer(request, 400)


def permission_denied(request: HttpRequest, exception: Exception | None = None) -> HttpResponse:
    """Answer 403, with the sentence that was given to `PermissionDenied`."""
    return answer(request, 403, str(exception or ""))


def csrf_failure(request: HttpRequest, reason: str = "") -> HttpResponse:
    """Answer 403 to a form that did not come from our own page (`CSRF_FAILURE_VIEW`)."""
    return answer(
        request, 403, "This page was open for too long. Load it again and repeat.", "csrf_failed"
    )


def not_found(request: HttpRequest, exception: Exception | None = None) -> HttpResponse:
    """Answer 404."""
    return answer(request, 404)


def too_many_requests(request: HttpRequest) -> HttpResponse:
    """Answer 429, for the limits of the pages of signing in."""
    response = answer(request, 429)
    response["Retry-After"] = "60"
    return response


def server_error(request: HttpRequest) -> HttpResponse:
    """Answer 500, or 503 when the reason is that the store is away.

    Middleware such as sessions needs the store too, and its exceptions come only here.
    """
    error = sys.exc_info()[1]
    return store_away(request, error) if is_store_away(error) else answer(request, 500)


def store_away(request: HttpRequest, error: BaseException | None) -> HttpResponse:
    """Answer 503 with what is wrong with the store and the moment to try again."""
    code, detail = why_store_away(error)
    response = answer(request, 503, detail, code)
    response["Retry-After"] = str(RETRY_AFTER_SECONDS)
    return response


def answer(request: HttpRequest, status: int, detail: str = "", code: str = "") -> HttpResponse:
    """Return a problem under `/api/`, else the page `errors/<status>.html`.

    That page may itself need what is broken; then a plain one takes its place.
    """
    usual_code, usual_detail = _TEXTS[status]
    detail, code = detail or usual_detail, code or usual_code
    phrase = HTTPStatus(status).phrase
    if request.path.startswith("/api/"):
        body = {
            "type": "about:blank",
            "title": phrase,
            "status": status,
            "detail": detail,
            "code": code,
        }
        response: HttpResponse = JsonResponse(
            body, status=status, content_type="application/problem+json"
        )
    else:
        response = HttpResponse(_page(request, status, phrase, detail), status=status)
    response["Cache-Control"] = "no-store"
    return response


def _page(request: HttpRequest, status: int, title: str, detail: str) -> str:
    context = {"status": status, "title": title, "detail": detail}
    if status < 500:
        try:
            return render_to_string(f"errors/{status}.html", context, request)
        except (TemplateDoesNotExist, Error) as error:
            log.warning("errors.plain_page", status=status, error=type(error).__name__)
    try:
        # Without the request: no context processor, so nothing that asks the database.
        return render_to_string(f"errors/{status}.html", context)
    except Exception as error:
        log.warning("errors.plain_page", status=status, error=type(error).__name__)
    return (
        f'<!doctype html><html lang="en"><meta charset="utf-8"><title>{title}</title>'
        f"<h1>{title}</h1><p>{detail if status >= 500 else ''}</p></html>"
    )
