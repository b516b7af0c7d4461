"""The outermost layer of this API: its paths, CORS, and the shape of what others answer for it."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

from django.conf import settings
from django.utils.cache import patch_vary_headers

from compat.wire.answers import empty
from compat.wire.errors import shaped
from compat.wire.paths import PREFIX, normal
from orchestrator.api.errors import MEDIA_TYPE

if TYPE_CHECKING:
    from collections.abc import Callable

    from django.http import HttpRequest, HttpResponse

_METHODS = "GET, POST, PUT, PATCH, DELETE, OPTIONS"
_HEADERS = (
    "authorization, content-type, x-api-key, x-filter, x-logging, x-no-cache, x-source, x-source-id"
)
_PREFLIGHT_SECONDS = 600


class CompatMiddleware:
    """Stands before all else, so that what other middleware answers is in this API's form too."""

    def __init__(self, get_response: Callable[[HttpRequest], HttpResponse]) -> None:
        self.get_response = get_response

    def __call__(self, request: HttpRequest) -> HttpResponse:
        path = normal(request.path_info)
        if path is None:
            return self.get_response(request)
        request.path = request.path_info = path
        origin = request.headers.get("Origin", "")
        allowed = bool(origin) and (
            origin in settings.COMPAT_CORS_ORIGINS or "*" in settings.COMPAT_CORS_ORIGINS
        )
        if request.method == "OPTIONS" and "Access-Control-Request-Method" in request.headers:
            response = empty(204)
            if allowed:
                response["Access-Control-Allow-Methods"] = _METHODS
                response["Access-Control-Allow-Headers"] = _HEADERS
                response["Access-Control-Max-Age"] = str(_PREFLIGHT_SECONDS)
        else:
            response = _in_form(self.get_response(request), path)
        if settings.COMPAT_CORS_ORIGINS:
            patch_vary_headers(response, ["Origin"])
        if allowed:
            response["Access-Control-Allow-Origin"] = origin
        return response


def _in_form(response: HttpResponse, path: str) -> HttpResponse:
    """Return what Django or other middleware answered in the form that this API's clients read."""
    if response.headers.get("Content-Type") != MEDIA_TYPE:
        return response
    told = json.loads(response.content)
    translated = shaped(
        response.status_code, told["detail"], told["code"], path.removeprefix(PREFIX), False
    )
    for name in ("Retry-After", "Cache-Control"):
        if name in response.headers:
            translated[name] = response.headers[name]
    return translated
