"""Who may use what, and why, from either side."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar

from drf_spectacular.types import OpenApiTypes
from drf_spectacular.utils import OpenApiParameter, extend_schema
from rest_framework import serializers
from rest_framework.response import Response

from accounts.api.querysets import users_visible_to
from accounts.api.serializers import UserReference
from accounts.models import User
from orchestrator.api.pagination import InOrder, page_size
from orchestrator.api.references import readable
from orchestrator.api.serializers import Output, ReferenceOutput
from orchestrator.api.views import ApiView, Lists
from vms import access_export, matrix
from vms.api.serializers import RoleReference
from vms.models import Grant, Template

if TYPE_CHECKING:
    from django.db.models import QuerySet
    from rest_framework.request import Request


class WayOutput(Output):
    """One grant by which one account may use one template."""

    template = ReferenceOutput()
    user = UserReference()
    grant = serializers.UUIDField(source="grant.id")
    role = RoleReference(
        allow_null=True, help_text="By which role the grant reaches the account; null: directly."
    )
    level = serializers.ChoiceField(Grant.Level.choices, source="grant.level")
    maximum_vms = serializers.IntegerField(source="grant.maximum_vms", allow_null=True)
    maximum_lease_seconds = serializers.IntegerField(
        source="grant.maximum_lease_seconds", allow_null=True
    )
    expires_at = serializers.DateTimeField(source="grant.expires_at", allow_null=True)
    usable = serializers.BooleanField()
    why_not = serializers.CharField(help_text="What keeps it from being of use now; else empty.")
    taken = serializers.BooleanField(help_text="The one that the next request would rely on.")


class ByWay(InOrder):
    """Pages in the order of the ids of grant and account."""

    def paginate_queryset(self, queryset: Any, request: Request, view: Any = None) -> list[Any]:
        self.request = request
        size = page_size(request)
        after = request.query_params.get("after", "")
        rows = [way for way in queryset if way.key > after]
        self.next = self._url("after", rows[size - 1].key) if len(rows) > size else None
        return rows[:size]

    def get_schema_operation_parameters(self, view: Any) -> list[dict[str, Any]]:
        after = {
            "name": "after",
            "required": False,
            "in": "query",
            "description": "Where the page before ended: follow `next`.",
            "schema": {"type": "string"},
        }
        return [self.size_parameter, after]


FILTERS = [
    OpenApiParameter("template", description="Id or name."),
    OpenApiParameter("subject", description="An account or role: id or name."),
]


class _Access(ApiView):
    tag = "access"
    model = Grant
    output = WayOutput
    query: ClassVar[dict[str, list[Any]]] = {"GET": FILTERS}

    def rows(self) -> QuerySet[Grant]:
        return Grant.objects.visible_to(self.actor)

    @property
    def filters(self) -> dict[str, str]:
        asked = self.request.query_params
        named = {
            name: readable(asked.get(name, ""), field=name) for name in ("template", "subject")
        }
        return {name: value for name, value in named.items() if value}


class AccessList(_Access, Lists):
    pagination_class: Any = ByWay
    docs = {
        "GET": "Tell who can use what and why, from either side: of a template, of an account or "
        "role, or of all that you may see; directly or by which role, until when."
    }

    def get(self, request: Request, **kwargs: Any) -> Any:
        page = self.paginate_queryset(matrix.ways(self.actor, **self.filters))
        return self.get_paginated_response(self.represent(page, many=True))


class AccessExport(_Access):
    docs = {"GET": "Download who can use what and why, as CSV."}

    @extend_schema(responses={(200, "text/csv"): OpenApiTypes.STR})
    def get(self, request: Request, **kwargs: Any) -> Any:
        ways = matrix.ways(self.actor, **self.filters)
        return access_export.export(self.actor, ways, filters=self.filters)


class AccessOutput(Output):
    """Every way to use a template, or of an account to use templates."""

    access = WayOutput(many=True)


class TemplateAccess(ApiView):
    tag = "templates"
    model = Template
    output = AccessOutput
    docs = {
        "GET": "Tell who can use a template: directly or by which role, until when, within which "
        "limits, and what keeps it from being of use now."
    }

    def rows(self) -> QuerySet[Template]:
        return Template.objects.visible_to(self.actor)

    def get(self, request: Request, **kwargs: Any) -> Response:
        return Response(self.represent({"access": matrix.who_can_use(self.actor, self.target())}))


class UserAccess(ApiView):
    tag = "users"
    model = User
    output = AccessOutput
    docs = {"GET": "Tell which templates an account of either kind can use, and why."}

    def rows(self) -> QuerySet[User]:
        return users_visible_to(self.actor)

    def get(self, request: Request, **kwargs: Any) -> Response:
        return Response(self.represent({"access": matrix.what_can_use(self.actor, self.target())}))
