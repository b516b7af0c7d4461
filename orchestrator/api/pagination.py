"""Pages of a list that never skip or repeat a row, however many are added meanwhile."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any
from uuid import UUID

from rest_framework.pagination import BasePagination
from rest_framework.response import Response
from rest_framework.utils.urls import remove_query_param, replace_query_param

from orchestrator.refusals import Invalid

if TYPE_CHECKING:
    from rest_framework.request import Request
    from rest_framework.views import APIView

DEFAULT_SIZE = 50
MAXIMUM_SIZE = 200
BIGGEST = 2**63 - 1  # what a column of either database can hold


def page_size(request: Request) -> int:
    """Return `?page_size=`: 1 to 200, 50 by default. Raises `Invalid`."""
    text = request.query_params.get("page_size")
    if text is None:
        return DEFAULT_SIZE
    if not (text.isascii() and text.isdigit() and len(text) < 10 and int(text) > 0):
        raise Invalid.field("page_size", f"Give a whole number from 1 to {MAXIMUM_SIZE}.")
    return min(int(text), MAXIMUM_SIZE)


def _link(name: str) -> dict[str, Any]:
    return {"type": ["string", "null"], "format": "uri", "description": f"The {name} page."}


class _Paged(BasePagination):
    request: Request
    size_parameter = {
        "name": "page_size",
        "required": False,
        "in": "query",
        "description": f"How many results a page has; more than {MAXIMUM_SIZE} is cut.",
        "schema": {"type": "integer", "minimum": 1, "default": DEFAULT_SIZE},
    }

    def _url(self, name: str, value: object) -> str:
        url = self.request.build_absolute_uri()
        for other in ("before", "after"):
            url = remove_query_param(url, other)
        return replace_query_param(url, name, str(value))


class NewestFirst(_Paged):
    """Keyset pages by the id alone: a UUIDv7, so unique and in the order of time.

    `?before=<id>` is the page of older rows behind that id, `?after=<id>` the one of newer rows.
    Clients follow `next` and `previous` and need not know.
    """

    def paginate_queryset(
        self, queryset: Any, request: Request, view: APIView | None = None
    ) -> list[Any]:
        self.request = request
        size = page_size(request)
        before, after = self._cursor("before"), self._cursor("after")
        if before and after:
            raise Invalid("Give either `before` or `after`, not both.", code="bad_cursor")
        if after:
            rows = list(queryset.filter(pk__gt=after).order_by("pk")[: size + 1])
            more_newer, more_older = len(rows) > size, bool(rows)
            page = rows[:size][::-1]
        else:
            if before:
                queryset = queryset.filter(pk__lt=before)
            rows = list(queryset.order_by("-pk")[: size + 1])
            more_newer, more_older = before is not None, len(rows) > size
            page = rows[:size]
        self.next = self._url("before", page[-1].pk) if page and more_older else None
        self.previous = self._url("after", page[0].pk) if page and more_newer else None
        return page

    def _cursor(self, name: str) -> UUID | None:
        text = self.request.query_params.get(name)
        if text is None:
            return None
        try:
            return UUID(text)
        except ValueError:
            raise Invalid(
                f"`{name}` is not a place in this list. Follow `next` or `previous` of a page, "
                "or begin without it.",
                code="bad_cursor",
                errors={name: ["This is not the id of a row."]},
            ) from None

    def get_paginated_response(self, data: Any) -> Response:
        return Response({"next": self.next, "previous": self.previous, "results": data})

    def get_paginated_response_schema(self, schema: dict[str, Any]) -> dict[str, Any]:
        return {
            "type": "object",
            "required": ["next", "previous", "results"],
            "properties": {
                "next": _link("next (older)"),
                "previous": _link("previous (newer)"),
                "results": schema,
            },
        }

    def get_schema_operation_parameters(self, view: APIView) -> list[dict[str, Any]]:
        return [
            self.size_parameter,
            *(
                {
                    "name": name,
                    "required": False,
                    "in": "query",
                    "description": f"Only rows {when} than the one of this id.",
                    "schema": {"type": "string", "format": "uuid"},
                }
                for name, when in (("before", "older"), ("after", "newer"))
            ),
        ]


class InOrder(_Paged):
    """Pages of a growing list, oldest first: `?after=<number>` of the last row that is known.

    `next` is null when there is nothing more *now*: a follower asks again behind its last row.
    """

    number = "id"

    def paginate_queryset(
        self, queryset: Any, request: Request, view: APIView | None = None
    ) -> list[Any]:
        self.request = request
        size = page_size(request)
        text = request.query_params.get("after", "0")
        if not (text.isascii() and text.isdigit() and len(text) < 20 and int(text) <= BIGGEST):
            raise Invalid.field("after", "Give the number of the last row that you have, or 0.")
        rows = list(
            queryset.filter(**{f"{self.number}__gt": int(text)}).order_by(self.number)[: size + 1]
        )
        page = rows[:size]
        more = len(rows) > size
        self.next = self._url("after", getattr(page[-1], self.number)) if more else None
        return page

    def get_paginated_response(self, data: Any) -> Response:
        return Response({"next": self.next, "results": data})

    def get_paginated_response_schema(self, schema: dict[str, Any]) -> dict[str, Any]:
        return {
            "type": "object",
            "required": ["next", "results"],
            "properties": {"next": _link("next"), "results": schema},
        }

    def get_schema_operation_parameters(self, view: APIView) -> list[dict[str, Any]]:
        return [
            self.size_parameter,
            {
                "name": "after",
                "required": False,
                "in": "query",
                "description": "Only rows behind this number.",
                "schema": {"type": "integer", "format": "int64", "minimum": 0, "default": 0},
            },
        ]


class BySequence(InOrder):
    """Pages of sealed rows, by the number that the sealer gave them."""

    number = "sequence"
