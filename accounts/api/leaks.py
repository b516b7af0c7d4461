"""The drill for a leaked token: what would be hit, what the tokens did, and revoking them all."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from django.http import StreamingHttpResponse
from drf_spectacular.types import OpenApiTypes
from drf_spectacular.utils import extend_schema
from rest_framework import serializers
from rest_framework.response import Response

from accounts import leaks
from accounts.api.querysets import users_visible_to
from accounts.api.serializers import HitOutput, RevokeInput, TokenOutput
from accounts.models import AuditEvent, User
from orchestrator.api.serializers import Output
from orchestrator.api.views import ApiView, Posts

if TYPE_CHECKING:
    from django.db.models import QuerySet
    from rest_framework.request import Request


class _Counted(Output):
    count = serializers.IntegerField()
    first_at = serializers.DateTimeField()
    last_at = serializers.DateTimeField()


class TokenActionOutput(_Counted):
    """How often tokens of an account did something, or were refused."""

    action = serializers.CharField()
    outcome = serializers.ChoiceField(AuditEvent.Outcome.choices)


class TokenObjectOutput(_Counted):
    """How often tokens of an account acted on something."""

    subject = serializers.CharField(help_text="Such as `vm:<id>`.")
    subject_name = serializers.CharField()


class TokenAddressOutput(_Counted):
    """How often tokens of an account came from somewhere."""

    address = serializers.CharField()


class ActivityOutput(Output):
    """What the tokens of an account did, most often first; 100 of each at most."""

    since = serializers.DateTimeField()
    events = serializers.IntegerField()
    actions = TokenActionOutput(many=True)
    objects = TokenObjectOutput(many=True)
    addresses = TokenAddressOutput(many=True)


class LeakedTokensOutput(Output):
    """The tokens that are, or were now, revoked together, and the VMs that this reaches."""

    tokens = TokenOutput(many=True)
    hits = HitOutput(many=True)
    activity = ActivityOutput(allow_null=True, help_text="Null without the right to the audit.")


class LeakedTokens(Posts):
    tag = "users"
    model = User
    output = LeakedTokensOutput
    input = RevokeInput
    status = 200
    docs = {
        "GET": "Show which tokens of an account are live, which VMs rest on them, and what all its "
        "tokens did in the last 30 days.",
        "POST": "Revoke all tokens of an account at once. What they queued is cancelled, and "
        "running VMs are kept, stopped or deleted as chosen. Answers with what was revoked.",
    }

    def rows(self) -> QuerySet[User]:
        return users_visible_to(self.actor)

    def get(self, request: Request, **kwargs: Any) -> Response:
        user = self.target()
        live = leaks.live_tokens(self.actor, user)
        return Response(self.shown(user, live, leaks.preview(self.actor, user)))

    def perform(self, data: dict[str, Any]) -> User:
        user: User = self.target()
        self.done = leaks.revoke_all(self.actor, user, **data)
        return user

    def answer(self, thing: User) -> Response:
        revoked, hits = getattr(self, "done", ([], []))  # a replay finds nothing left to revoke
        return Response(self.shown(thing, revoked, hits))

    def check_replay(self) -> None:
        if self.target().pk != self.actor.user_id:
            self.actor.require("accounts.manage")

    def shown(self, user: User, tokens: list[Any], hits: list[Any]) -> Any:
        seen = leaks.may_see_activity(self.actor, user)
        told = leaks.activity(self.actor, user) if seen else None
        return self.represent({"tokens": tokens, "hits": hits, "activity": told})


class LeakedTokensReport(ApiView):
    tag = "users"
    model = User
    output = LeakedTokensOutput
    docs = {
        "GET": "Download what the tokens of an account did in the last 30 days as JSON lines: "
        "first the account with its tokens, then each event. The download is audited."
    }

    def rows(self) -> QuerySet[User]:
        return users_visible_to(self.actor)

    @extend_schema(responses={(200, "application/x-ndjson"): OpenApiTypes.STR})
    def get(self, request: Request, **kwargs: Any) -> Any:
        return report_of(self.actor, self.target())


def report_of(actor: Any, user: User) -> StreamingHttpResponse:
    """Return the report as a download, for the API and the page."""
    response = StreamingHttpResponse(
        leaks.report(actor, user), content_type="application/x-ndjson; charset=utf-8"
    )
    response["Content-Disposition"] = f'attachment; filename="tokens-{user.pk}.jsonl"'
    response["Cache-Control"] = "no-store"
    return response
