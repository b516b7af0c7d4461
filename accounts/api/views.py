from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar

import django_filters
from django.db import transaction
from django.db.models import QuerySet
from django_filters.rest_framework import DjangoFilterBackend
from drf_spectacular.types import OpenApiTypes
from drf_spectacular.utils import OpenApiParameter, extend_schema
from rest_framework.response import Response

from accounts import custom_roles, rights, rotation, service_accounts, tokens, users
from accounts.api import serializers
from accounts.api.querysets import roles_visible_to, users_visible_to
from accounts.audit.exporting import MEDIA_TYPES, export
from accounts.audit.reading import AuditFilter
from accounts.models import ApiToken, AuditEvent, Role, User
from accounts.revocation import CHOICES
from orchestrator.api.references import resolve
from orchestrator.api.serializers import Input
from orchestrator.api.views import ApiView, Lists, Patches, Posts, Shows
from orchestrator.refusals import Invalid

if TYPE_CHECKING:
    from collections.abc import Sequence
    from uuid import UUID

    from rest_framework.request import Request


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


class TokenFilter(django_filters.FilterSet):
    live = django_filters.BooleanFilter(method="by_live", help_text="Only live, or only ended.")
    unused_days = django_filters.NumberFilter(
        method="by_use",
        min_value=1,
        max_value=3650,
        help_text="Live ones that nobody has used for so many days, or ever.",
    )

    class Meta:
        model = ApiToken
        fields = ["live", "unused_days"]

    def by_use(self, rows: Any, name: str, value: Any) -> Any:
        return rows.filter(pk__in=ApiToken.objects.unused(int(value)).values("pk"))

    def by_live(self, rows: Any, name: str, value: bool) -> Any:
        live = ApiToken.objects.live().values("pk")
        return rows.filter(pk__in=live) if value else rows.exclude(pk__in=live)


class _Tokens(ApiView):
    tag = "tokens"
    model = ApiToken
    output = serializers.TokenOutput

    def rows(self) -> QuerySet[ApiToken]:
        return ApiToken.objects.visible_to(self.actor).select_related("user", "created_by")


class TokenList(_Tokens, Lists, Posts):
    """`vms.api` extends this with names of templates, which are not known here."""

    input = serializers.TokenInput
    post_output = serializers.NewTokenOutput
    filterset_class = TokenFilter
    shown_once = True
    docs = {
        "GET": "List the tokens that you may see.",
        "POST": "Make a token. Its clear text is in `token`, this once.",
    }

    def template_ids(self, references: list[str]) -> list[UUID]:
        """Return the ids of the templates that a token is narrowed to."""
        raise Invalid.field("templates", "Templates are not known here.")

    def perform(self, data: dict[str, Any]) -> ApiToken:
        if "user" in data:
            rows = users_visible_to(self.actor)
            data["user"] = resolve(rows, data["user"], field="user", name="username")
        if data.get("templates") is not None:
            data["templates"] = self.template_ids(data["templates"])
        token, clear_text = tokens.create_token(self.actor, **data)
        token.clear_text = clear_text  # type: ignore[attr-defined]
        return token

    def answer(self, thing: ApiToken) -> Response:
        body = serializers.NewTokenOutput(thing).data
        return Response(body, status=self.status, headers={"Location": self.location(thing)})


class TokenItem(_Tokens, Shows):
    docs = {"GET": "Show a token. Its secret is kept nowhere."}


class TokenRevoke(_Tokens, Posts):
    """Accounts know no jobs (the room is above), so this verb answers with the token itself."""

    input = serializers.RevokeInput
    status = 200
    docs = {
        "POST": "Revoke a token: it is refused from now on, what it queued is cancelled, and its "
        "running VMs are kept, stopped or deleted as chosen. Answers with the token."
    }

    def perform(self, data: dict[str, Any]) -> ApiToken:
        token = self.target()
        tokens.revoke_token(self.actor, token, running_vms=data.get("running_vms", "keep"))
        return self.target()


class TokenRotate(_Tokens, Posts):
    input = serializers.RotateInput
    post_output = serializers.NewTokenOutput
    status = 200
    shown_once: ClassVar[bool] = True
    docs = {
        "POST": "Give a token a new secret, in `token`, this once. The old one works for "
        "`overlap_seconds` more. What was made with it still belongs to the token."
    }

    def perform(self, data: dict[str, Any]) -> ApiToken:
        token, clear_text = rotation.rotate_token(self.actor, self.target(), **data)
        token.clear_text = clear_text  # type: ignore[attr-defined]
        return token

    def answer(self, thing: ApiToken) -> Response:
        return Response(serializers.NewTokenOutput(thing).data, status=self.status)


class TokenEndOverlap(_Tokens, Posts):
    status = 200
    docs = {"POST": "Refuse the secret before the last rotation from now on."}

    def perform(self, data: dict[str, Any]) -> ApiToken:
        rotation.end_overlap(self.actor, self.target())
        return self.target()

    def check_replay(self) -> None:
        tokens.require_manage(self.actor, self.target())


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
