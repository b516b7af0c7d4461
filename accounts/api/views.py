from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar

import django_filters
from django.db import transaction
from django.db.models import QuerySet
from django_filters.rest_framework import DjangoFilterBackend
from drf_spectacular.types import OpenApiTypes
from drf_spectacular.utils import OpenApiParameter, extend_schema
from rest_framework.response import Response

from accounts import (
    custom_roles,
    revocation,
    rights,
    service_accounts,
    users,
)
from accounts.api import serializers
from accounts.api.querysets import roles_visible_to, users_visible_to
from accounts.audit.exporting import MEDIA_TYPES, export
from accounts.audit.reading import AuditFilter
from accounts.models import AuditEvent, Role, User
from accounts.revocation import CHOICES
from orchestrator.api.references import readable, resolve
from orchestrator.api.serializers import Input
from orchestrator.api.views import ApiView, Lists, Patches, Posts, Shows

if TYPE_CHECKING:
    from collections.abc import Sequence

    from rest_framework.request import Request

    from accounts.revocation import Hit


class Me(ApiView):
    tag = "me"
    model = User
    output = serializers.MeOutput
    docs = {"GET": "Tell who asks, with which roles, permissions and token."}

    def rows(self) -> QuerySet[User]:
        return User.objects.filter(pk=self.actor.user_id)

    def get(self, request: Request) -> Response:
        return Response(self.represent(self.actor))


class RoleList(Lists, Posts):
    tag = "roles"
    model = Role
    output = serializers.RoleOutput
    input = serializers.RoleInput
    permission = "accounts.manage"
    docs = {
        "GET": "List the roles that you may see, with their permissions.",
        "POST": "Make a role with single permissions.",
    }

    def perform(self, data: dict[str, Any]) -> Role:
        return custom_roles.create_role(self.actor, **data)

    def rows(self) -> QuerySet[Role]:
        return roles_visible_to(self.actor)


class RoleItem(Shows, Patches):
    tag = "roles"
    model = Role
    output = serializers.RoleOutput
    changes = serializers.RoleChanges
    revokes = True
    docs = {
        "GET": "Show a role with its permissions.",
        "PATCH": "Change its weight: how large its share is when roles compete for the pool; and, "
        "unless it is a shipped one, its name and permissions. What is taken away ends at once.",
        "DELETE": "Delete a role with its grants and quota. What rests on it ends at once.",
    }
    query: ClassVar[dict[str, list[Any]]] = {
        "DELETE": [
            OpenApiParameter(
                "running_vms",
                enum=CHOICES,
                description="What becomes of VMs that rest on it. Default: keep.",
            )
        ]
    }

    def rows(self) -> QuerySet[Role]:
        return roles_visible_to(self.actor)

    def change(self, role: Role, data: dict[str, Any]) -> None:
        self.actor.require("accounts.manage")
        with transaction.atomic():
            if "weight" in data:
                users.set_weight(self.actor, role, data.pop("weight"))
            if "requires_second_factor" in data:
                users.require_second_factor(self.actor, role, data.pop("requires_second_factor"))
            if "name" in data or "permissions" in data:
                custom_roles.change_role(self.actor, role, **data)

    def delete(self, request: Request, **kwargs: Any) -> Response:
        running_vms = request.query_params.get("running_vms", "keep")
        custom_roles.delete_role(self.actor, self.target(), running_vms=running_vms)
        return Response(status=204)


class UserFilter(django_filters.FilterSet):
    username = django_filters.CharFilter(lookup_expr="iexact")
    active = django_filters.BooleanFilter(field_name="is_active")

    class Meta:
        model = User
        fields = ["username", "active"]


class _Accounts(ApiView):
    """Users and service accounts differ in nothing but their kind."""

    kind: ClassVar[User.Kind]
    model = User
    output = serializers.UserOutput

    def rows(self) -> QuerySet[User]:
        return users_visible_to(self.actor).filter(kind=self.kind).prefetch_related("groups")

    def roles(self, references: Sequence[str]) -> list[Role]:
        rows = roles_visible_to(self.actor)
        return [
            resolve(rows, reference, field="roles", name="group__name") for reference in references
        ]


class UserList(_Accounts, Lists, Posts):
    tag = "users"
    kind = User.Kind.PERSON
    input: ClassVar[type[Input]] = serializers.UserInput
    filterset_class = UserFilter
    permission = "accounts.manage"
    docs = {
        "GET": "List the people that you may see.",
        "POST": "Make an account for a person. Without a password they cannot sign in yet.",
    }

    def perform(self, data: dict[str, Any]) -> User:
        self.actor.require(self.permission)  # before roles are told from absent ones
        return users.create_user(
            self.actor, **data | {"roles": self.roles(data["roles"]), "kind": self.kind}
        )


class ServiceAccountList(UserList):
    tag = "service-accounts"
    kind = User.Kind.SERVICE
    input = serializers.ServiceAccountInput
    docs = {
        "GET": "List the service accounts that you may see.",
        "POST": "Make a service account: it has tokens, and no password.",
    }


class UserItem(_Accounts, Shows, Patches):
    tag = "users"
    kind = User.Kind.PERSON
    changes: ClassVar[type[Input]] = serializers.UserChanges
    revokes = True
    docs: ClassVar[dict[str, str]] = {
        "GET": "Show an account.",
        "PATCH": "Change an account's roles, or whether it is active. What is taken away ends at "
        "once; `running_vms` says what becomes of VMs that rest on it.",
    }

    def change(self, user: User, data: dict[str, Any]) -> None:
        self.actor.require("accounts.manage")
        running_vms = data.get("running_vms", "keep")
        with transaction.atomic():
            if "roles" in data:
                roles = self.roles(data["roles"])
                users.set_roles(self.actor, user, roles, running_vms=running_vms)
            if "active" in data:
                users.set_active(self.actor, user, data["active"], running_vms=running_vms)


class ServiceAccountItem(UserItem):
    tag = "service-accounts"
    kind = User.Kind.SERVICE
    changes = serializers.ServiceAccountChanges
    docs: ClassVar[dict[str, str]] = {
        **UserItem.docs,
        "DELETE": "Delete a service account with its tokens, grants, quota and webhooks. Refused "
        "while VMs rest on it.",
    }

    def change(self, user: User, data: dict[str, Any]) -> None:
        with transaction.atomic():
            super().change(user, data)
            if "description" in data:
                service_accounts.describe(self.actor, user, data["description"])

    def delete(self, request: Request, **kwargs: Any) -> Response:
        service_accounts.delete(self.actor, self.target())
        return Response(status=204)


class UserRights(ApiView):
    tag = "users"
    model = User
    output = serializers.RightsOutput
    docs = {"GET": "Tell what an account of either kind may do, and which of its roles gives it."}

    def rows(self) -> QuerySet[User]:
        return users_visible_to(self.actor)

    def get(self, request: Request, **kwargs: Any) -> Response:
        user = self.target()
        held = [right for right in rights.rights_of(self.actor, user) if right.roles]
        return Response(self.represent({"user": user, "rights": held}))


class Impact(ApiView):
    """What a change would hit, asked with the values that it would have."""

    output = serializers.HitsOutput
    asks: ClassVar[str]  # the name of the parameter

    def asked(self) -> list[str] | None:
        """Return what the parameter names, between commas; None without it."""
        text = self.request.query_params.get(self.asks)
        if text is None:
            return None
        return [word for word in readable(text, field=self.asks).split(",") if word]

    def hits(self) -> list[Hit]:
        raise NotImplementedError(f"{type(self).__name__}.hits")

    def get(self, request: Request, **kwargs: Any) -> Response:
        self.target()
        self.actor.require("accounts.manage")
        return Response(self.represent({"hits": self.hits(), "choices": CHOICES}))


class RoleImpact(Impact):
    tag = "roles"
    model = Role
    asks = "permissions"
    docs = {
        "GET": "List what deleting a role would hit now; with `permissions`, what giving it "
        "exactly these would."
    }
    query: ClassVar[dict[str, list[Any]]] = {
        "GET": [OpenApiParameter("permissions", description="Codes, between commas.")]
    }

    def rows(self) -> QuerySet[Role]:
        return roles_visible_to(self.actor)

    def hits(self) -> list[Hit]:
        asked = self.asked()
        return custom_roles.preview_losing(self.target(), deleting=asked is None, permissions=asked)


class UserImpact(Impact):
    tag = "users"
    model = User
    asks = "roles"
    docs = {
        "GET": "List what deactivating an account of either kind would hit now; with `roles`, "
        "what giving it exactly these would."
    }
    query: ClassVar[dict[str, list[Any]]] = {
        "GET": [OpenApiParameter("roles", description="Ids or names, between commas.")]
    }

    def rows(self) -> QuerySet[User]:
        return users_visible_to(self.actor)

    def hits(self) -> list[Hit]:
        asked = self.asked()
        if asked is None:
            return revocation.preview(revocation.Revoked("user", self.target().pk))
        rows = roles_visible_to(self.actor)
        roles = [resolve(rows, one, field="roles", name="group__name") for one in asked]
        return users.preview_roles(self.target(), roles)


class AuditList(Lists):
    tag = "audit"
    model = AuditEvent
    output = serializers.AuditOutput
    filterset_class = AuditFilter
    docs = {"GET": "List what was done and refused, newest first."}

    def rows(self) -> QuerySet[AuditEvent]:
        return AuditEvent.objects.visible_to(self.actor)


class AuditExport(ApiView):
    tag = "audit"
    model = AuditEvent
    output = serializers.AuditOutput
    filterset_class = AuditFilter
    query: ClassVar[dict[str, list[Any]]] = {
        "GET": [
            OpenApiParameter("as", enum=sorted(MEDIA_TYPES), default="jsonl"),
            *(
                OpenApiParameter(name, str, description=filter_.extra.get("help_text", ""))
                for name, filter_ in AuditFilter.base_filters.items()
            ),
        ]
    }
    docs = {
        "GET": "Download what the list shows with the same filters, oldest first, as JSON lines or "
        "CSV. Any number of lines; the download itself is audited."
    }

    def rows(self) -> QuerySet[AuditEvent]:
        return AuditEvent.objects.visible_to(self.actor)

    @extend_schema(
        responses={(200, media_type): OpenApiTypes.STR for media_type in MEDIA_TYPES.values()}
    )
    def get(self, request: Request, **kwargs: Any) -> Any:
        rows = DjangoFilterBackend().filter_queryset(request, self.get_queryset(), self)
        filters = {name: text for name, text in request.GET.items() if text and name != "as"}
        form = request.GET.get("as", "jsonl")
        return export(self.actor, rows, form, filters=filters)
