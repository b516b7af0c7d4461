"""How the views become OpenAPI 3.1: tidy ids, one tag per noun, every problem that may come."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

from drf_spectacular.openapi import AutoSchema as SpectacularSchema
from drf_spectacular.types import OpenApiTypes
from drf_spectacular.utils import OpenApiParameter

from orchestrator.api.errors import MEDIA_TYPE
from orchestrator.api.serializers import Input, Nothing, Problem
from orchestrator.api.views import ApiView, Lists, Patches, Posts

if TYPE_CHECKING:
    from collections.abc import Iterator

PREFIX = "api/v2/"
WHAT = {
    "400": "A field or the request as a whole is not acceptable.",
    "401": "No token or session, or not a live one.",
    "403": "Visible, but not allowed; `code` says why.",
    "404": "Not there, or not visible to you.",
    "405": "The address does not know this method.",
    "409": "The object's state does not allow it now.",
    "412": "Changed since you read it.",
    "413": "The body is too large.",
    "415": "The body is not `application/json`.",
    "422": "The `Idempotency-Key` was used for another request.",
    "429": "Asked too often.",
    "503": "The database is away; try again.",
}
RETRY_AFTER = {
    "Retry-After": {"description": "Seconds.", "schema": {"type": "integer", "minimum": 0}}
}
VERBS = {"GET": "get", "POST": "create", "PATCH": "update", "DELETE": "delete", "PUT": "replace"}


def operation_of(path: str, method: str, *, listing: bool) -> list[str]:
    """Return the words that name an operation: `["hosts", "cordon"]`, `["vms", "list"]`."""
    parts = [part for part in path.strip("/").removeprefix(PREFIX).split("/") if part]
    words = [part.replace("-", "_") for part in parts if part[0] not in "{<"]
    if method in ("GET", "HEAD"):
        return [*words, "list" if listing else "get"]
    if method == "DELETE" and listing:
        return [*words, "delete_all"]
    is_verb = len(words) > 1 and parts[-1][0] not in "{<" and method == "POST"
    return words if is_verb else [*words, VERBS.get(method, method.lower())]


class AutoSchema(SpectacularSchema):
    """Reads the declarations of `orchestrator.api.views`."""

    view: Any

    def is_excluded(self) -> bool:
        return not isinstance(self.view, ApiView)

    def get_operation_id(self) -> str:
        listing = isinstance(self.view, Lists)
        return "_".join(operation_of(self.path, self.method, listing=listing))

    def get_tags(self) -> list[str]:
        return [self.view.tag]

    def get_summary(self) -> str:
        return re.split(r"[.:;](?: |$)", self.get_description(), maxsplit=1)[0]

    def get_description(self) -> str:  # type: ignore[override]
        return self.view.docs.get(self.method) or super().get_description()

    def _is_list_view(self, serializer: Any = None) -> bool:
        return (
            self.method == "GET"
            and isinstance(self.view, Lists)
            and not isinstance(serializer, dict)
        )

    def get_request_serializer(self) -> Any:
        match self.method:
            case "POST":
                return None if self.view.input is Nothing else self.view.input
            case "PATCH":
                return self.view.changes
            case "DELETE":
                return None
        return self.view.output

    def get_response_serializers(self) -> Any:
        if self.method == "DELETE":
            output = getattr(self.view, "delete_output", None)
            codes = ["202", *getattr(self.view, "held_statuses", ())]
            return dict.fromkeys(codes, output) if output else {"204": None}
        if self.method == "POST":
            codes = [str(self.view.status), *getattr(self.view, "held_statuses", ())]
            output = getattr(self.view, "post_output", None) or self.view.output
            return dict.fromkeys(codes, output)
        return {"200": self.view.output}

    def _get_response_bodies(self, direction: Any = "response") -> Any:
        responses = super()._get_response_bodies(direction)
        problem = self.resolve_serializer(Problem, "response").ref
        for code in self._problems():
            responses[code] = {
                "description": WHAT[code],
                "content": {MEDIA_TYPE: {"schema": problem}},
            }
            if code in ("429", "503"):
                responses[code]["headers"] = RETRY_AFTER
            if code == "401":
                responses[code]["headers"] = {
                    "WWW-Authenticate": {"schema": {"type": "string", "const": "Bearer"}}
                }
        return dict(sorted(responses.items()))

    def _problems(self) -> Iterator[str]:
        yield from ("401", "403", "405", "429", "503")
        if "{" in self.path or self.method == "POST":
            yield "404"  # the path's object, or one that the body names
        if self._is_list_view() or self.method != "GET" or self.get_override_parameters():
            yield "400"
        if self.method != "GET":
            yield from ("409", "413")
        elif getattr(self.view, "asks_host", False):
            yield "409"
        if self.method in ("POST", "PATCH"):
            yield "415"
        if self.method == "POST":
            yield "422"
        if self.method == "PATCH":
            yield "412"

    def get_override_parameters(self) -> list[Any]:
        found = list(self.view.query.get(self.method, ()))
        if self.method == "POST" and isinstance(self.view, Posts):
            found += [
                _header(
                    "Idempotency-Key",
                    "Sent again within 24 hours, the same request has no second effect. "
                    "At most 128 visible ASCII characters.",
                ),
                _answer("Idempotent-Replayed", "`true` when an earlier request had the effect."),
            ]
            if self.view.status == 201 or "201" in getattr(self.view, "held_statuses", ()):
                found.append(_answer("Location", "Where the new object is."))
        if self.method in ("POST", "DELETE") and getattr(self.view, "may_wait", False):
            found += [
                _header("Prefer", "`wait=N`: hold the answer until the job ends, N ≤ 60 seconds."),
                _answer("Preference-Applied", "`wait=N` when the answer was held until the end."),
            ]
        if isinstance(self.view, Patches):
            if self.method == "PATCH":
                found.append(
                    _header("If-Match", "The `ETag` that you read: refuses a lost update.")
                )
            if self.method in ("GET", "PATCH"):
                found.append(_answer("ETag", "For `If-Match`; covers what can be changed."))
        return found

    def get_serializer_name(self, serializer: Any, direction: Any) -> str:
        name: str = super().get_serializer_name(serializer, direction)
        return name.removesuffix("Output").removesuffix("Input")

    def _map_basic_serializer(self, serializer: Any, direction: Any) -> Any:
        schema = super()._map_basic_serializer(serializer, direction)
        if isinstance(serializer, Input):
            schema["additionalProperties"] = False
        return schema


def _header(name: str, description: str) -> OpenApiParameter:
    return OpenApiParameter(
        name, OpenApiTypes.STR, OpenApiParameter.HEADER, description=description
    )


def _answer(name: str, description: str) -> OpenApiParameter:
    return OpenApiParameter(
        name,
        OpenApiTypes.STR,
        OpenApiParameter.HEADER,
        description=description,
        response=[200, 201, 202],
    )
