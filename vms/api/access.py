"""Who may use what, and why, from either side."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from rest_framework import serializers
from rest_framework.response import Response

from accounts.api.querysets import users_visible_to
from accounts.api.serializers import UserReference
from accounts.models import User
from orchestrator.api.serializers import Output, ReferenceOutput
from orchestrator.api.views import ApiView
from vms import matrix
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
