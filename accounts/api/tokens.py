"""Tokens over the API."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar

import django_filters
from rest_framework.response import Response

from accounts import key_pairs, rights, rotation, token_changes, tokens
from accounts.api import serializers
from accounts.api.querysets import users_visible_to
from accounts.models import ApiToken
from orchestrator.api.references import resolve
from orchestrator.api.views import ApiView, Lists, Patches, Posts, Shows
from orchestrator.refusals import Invalid

if TYPE_CHECKING:
    from uuid import UUID

    from django.db.models import QuerySet
    from rest_framework.request import Request


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

    def find_templates(self, data: dict[str, Any]) -> None:
        """Put ids in the place of the templates that a body names."""
        if data.get("templates") is not None:
            data["templates"] = self.template_ids(data["templates"])

    def template_ids(self, references: list[str]) -> list[UUID]:
        """Return the ids of the templates that a token is narrowed to."""
        raise Invalid.field("templates", "Templates are not known here.")


class TokenList(_Tokens, Lists, Posts):
    """`vms.api` extends this with names of templates, which are not known here."""

    input = serializers.TokenInput
    post_output = serializers.NewTokenOutput
    filterset_class = TokenFilter
    shown_once = True
    docs = {
        "GET": "List the tokens that you may see.",
        "POST": "Make a token, or with `key` a key pair. Its clear text is in `token`, this once.",
    }

    def perform(self, data: dict[str, Any]) -> ApiToken:
        if "user" in data:
            rows = users_visible_to(self.actor)
            data["user"] = resolve(rows, data["user"], field="user", name="username")
        self.find_templates(data)
        if "key" not in data:
            if "secret" in data:
                raise Invalid.field("secret", "Give a key, too: a secret of one's own needs one.")
            token, clear_text = tokens.create_token(self.actor, **data)
            token.clear_text = clear_text
            return token
        data.setdefault("secret", key_pairs.new_secret())
        token = key_pairs.create_key_pair(self.actor, **data)
        token.clear_secret = data["secret"]
        token.clear_text = key_pairs.encoded(token.key or "", data["secret"])
        return token

    def answer(self, thing: ApiToken) -> Response:
        body = serializers.NewTokenOutput(thing).data
        return Response(body, status=self.status, headers={"Location": self.location(thing)})


class TokenItem(_Tokens, Shows, Patches):
    """`vms.api` extends this as the list."""

    changes = serializers.TokenChanges
    revokes = True
    docs = {
        "GET": "Show a token. Its secret is kept nowhere.",
        "PATCH": "Change what a token is narrowed to. What is taken away ends at once: what it has "
        "queued outside of that is cancelled, and its VMs of templates that it may not use any "
        "more are kept, stopped or deleted as chosen.",
    }

    def change(self, token: ApiToken, data: dict[str, Any]) -> None:
        self.find_templates(data)
        token_changes.change_token(self.actor, token, **data)


class TokenRights(ApiView):
    tag = "tokens"
    model = ApiToken
    output = serializers.TokenRightsOutput
    docs = {"GET": "Tell what a token may do: what its account may and its scopes cover."}

    def rows(self) -> QuerySet[ApiToken]:
        return ApiToken.objects.visible_to(self.actor).select_related("user")

    def get(self, request: Request, **kwargs: Any) -> Response:
        token = self.target()
        every = rights.rights_of(self.actor, token.user, token)
        shown = {
            "token": token,
            "live": ApiToken.objects.live().filter(pk=token.pk, user__is_active=True).exists(),
            "rights": [right for right in every if right.held],
        }
        return Response(self.represent(shown))


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
        token.clear_text = clear_text
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
