"""Every failure as `application/problem+json` (RFC 9457), with a sentence that says what to do."""

from __future__ import annotations

from http import HTTPStatus
from typing import TYPE_CHECKING, Any

import structlog
from django.core.exceptions import (
    NON_FIELD_ERRORS,
    PermissionDenied,
    RequestDataTooBig,
    SuspiciousOperation,
)
from django.core.exceptions import ValidationError as DjangoValidationError
from django.db import DataError, IntegrityError, InterfaceError, OperationalError
from django.http import Http404, UnreadablePostError
from rest_framework import exceptions
from rest_framework.response import Response

from orchestrator.refusals import Refusal, refuses_right
from orchestrator.web.errors import RETRY_AFTER_SECONDS, why_store_away

if TYPE_CHECKING:
    from collections.abc import Iterator

log = structlog.get_logger(__name__)
MEDIA_TYPE = "application/problem+json"
NO_CREDENTIALS = "Sign in, or send a live token as “Authorization: Bearer …”."


class StaleCopy(Refusal):
    """The object is not any more what `If-Match` means."""

    status = 412
    title = "Precondition failed"
    default_code = "stale"


def problem(
    status: int,
    detail: str,
    code: str,
    *,
    title: str = "",
    errors: dict[str, list[str]] | None = None,
    headers: dict[str, str] | None = None,
) -> Response:
    """Return a problem as a response."""
    body: dict[str, Any] = {
        "type": "about:blank",
        "title": title or HTTPStatus(status).phrase,
        "status": status,
        "detail": _sendable(detail),
        "code": code,
    }
    if errors:
        body["errors"] = {
            _sendable(name): [_sendable(text) for text in texts] for name, texts in errors.items()
        }
    return Response(body, status=status, headers=headers, content_type=MEDIA_TYPE)


def _sendable(text: str) -> str:
    """Return `text` without lone surrogates, which a body may name and UTF-8 cannot hold."""
    return text.encode("utf-8", "backslashreplace").decode()


def handle(exc: Exception, context: dict[str, Any]) -> Response:
    """Return the problem for whatever a view raised. Set as DRF's `EXCEPTION_HANDLER`.

    A refusal with 403, and a write that is told 404, is audited here, after the rollback: whoever
    authenticated the request left `on_refusal` on it. What nobody expected is logged and told
    without any detail.
    """
    response = problem_of(exc)
    request = context.get("request")
    if refuses_right(response.status_code, request.method if request else ""):
        _tell(response.data, context)
    return response


def problem_of(exc: Exception) -> Response:
    """Return the problem that `exc` is; what nobody expected is logged and told without detail."""
    response = _known(exc)
    if response is None:
        log.error("api.unexpected", exc_info=exc)
        return problem(
            500,
            "Something went wrong here. The administrators find it in the log by the request id.",
            "internal_error",
        )
    return response


def _tell(told: dict[str, Any], context: dict[str, Any]) -> None:
    request = context.get("request")
    on_refusal = getattr(getattr(request, "_request", None), "on_refusal", None)
    if on_refusal is None:
        return
    try:
        on_refusal(context["view"], told["code"], told["detail"])
    except Exception:  # the caller gets the refusal in any case
        log.exception("api.refusal_not_audited", code=told["code"])


def _known(exc: Exception) -> Response | None:
    match exc:
        case Refusal():
            retry_after = getattr(exc, "retry_after", None)
            return problem(
                exc.status,
                exc.message,
                exc.code,
                title=exc.title,
                errors=exc.errors,
                headers={"Retry-After": str(retry_after)} if retry_after else None,
            )
        case exceptions.ValidationError():
            return _bad_fields(dict(_flat(exc.detail)))
        case exceptions.APIException():
            return _drf(exc)
        case Http404():
            return problem(404, "There is nothing here.", "not_found")
        case PermissionDenied():
            return problem(403, str(exc) or "You may not do this.", "forbidden")
        case DjangoValidationError():
            errors = exc.message_dict if hasattr(exc, "error_dict") else {"": exc.messages}
            return _bad_fields(
                {"" if name == NON_FIELD_ERRORS else name: list(t) for name, t in errors.items()}
            )
        case RequestDataTooBig():
            return problem(413, "The body is too large. Send less.", "too_large")
        case SuspiciousOperation() | UnreadablePostError():
            return problem(400, "The request could not be read.", "bad_request")
        case OperationalError() | InterfaceError():
            log.warning("api.store_away", error=str(exc))
            code, detail = why_store_away(exc)
            return problem(503, detail, code, headers={"Retry-After": str(RETRY_AFTER_SECONDS)})
        case IntegrityError():
            # A race that the domain function did not foresee: no answer may be a lie about it.
            log.error("api.collision", exc_info=exc)
            return problem(
                409, "This collides with a change made at the same moment. Look again.", "collision"
            )
        case DataError():
            log.error("api.data_refused", exc_info=exc)
            return problem(400, "A value is too long or too large.", "invalid")
    return None


def _drf(exc: exceptions.APIException) -> Response:
    headers = {}
    if auth_header := getattr(exc, "auth_header", None):
        headers["WWW-Authenticate"] = auth_header
    if (wait := getattr(exc, "wait", None)) is not None:
        headers["Retry-After"] = str(max(1, round(wait)))
    codes = exc.get_codes()
    detail = NO_CREDENTIALS if isinstance(exc, exceptions.NotAuthenticated) else str(exc.detail)
    return problem(
        exc.status_code,
        detail,
        codes if isinstance(codes, str) else exc.default_code,
        headers=headers,
    )


def _bad_fields(errors: dict[str, list[str]]) -> Response:
    name, texts = next(iter(errors.items()))
    detail = f"{name}: {texts[0]}" if name else texts[0]
    return problem(400, detail, "invalid", errors=errors)


def _flat(detail: Any, name: str = "") -> Iterator[tuple[str, list[str]]]:
    """Yield `field` or `field.place` with its sentences, from DRF's nested details."""
    if isinstance(detail, dict):
        for key, inner in detail.items():
            inner_name = "" if key == "non_field_errors" else str(key)
            yield from _flat(inner, ".".join(filter(None, [name, inner_name])))
    elif isinstance(detail, list) and any(isinstance(one, dict | list) for one in detail):
        for place, inner in enumerate(detail):
            if inner:
                yield from _flat(inner, f"{name}.{place}" if name else str(place))
    else:
        yield name, [str(one) for one in (detail if isinstance(detail, list) else [detail])]
