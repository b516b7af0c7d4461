"""`/api/v2/enrolment-tokens/`: with one a host enrols itself, once."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar

from rest_framework import serializers
from rest_framework.response import Response

from accounts.api.serializers import UserReference
from hosts import enrolment_tokens
from hosts.models import EnrolmentToken
from orchestrator.api.serializers import Input, Output, Text, Whole
from orchestrator.api.views import ApiView, Lists, Posts

if TYPE_CHECKING:
    from django.db.models import QuerySet


class EnrolmentTokenOutput(Output):
    """Lets one host enrol itself, once."""

    id = serializers.UUIDField()
    host_name = serializers.CharField()
    state = serializers.ChoiceField(EnrolmentToken.STATES)
    expires_at = serializers.DateTimeField()
    used_at = serializers.DateTimeField(allow_null=True)
    host = serializers.UUIDField(source="host_id", allow_null=True, help_text="That it enrolled.")
    created_by = UserReference()
    created_at = serializers.DateTimeField()


class NewEnrolmentTokenOutput(EnrolmentTokenOutput):
    """A new token, with its clear text. It is shown once."""

    token = serializers.CharField()


class EnrolmentTokenInput(Input):
    host_name = Text(max_length=100)
    minutes = Whole(
        min_value=1,
        max_value=enrolment_tokens.MAXIMUM_MINUTES,
        required=False,
        help_text=f"How long it is good. Default: {enrolment_tokens.MINUTES}.",
    )


class EnrolmentTokenView(ApiView):
    tag = "hosts"
    model = EnrolmentToken
    output: Any = EnrolmentTokenOutput

    def rows(self) -> QuerySet[EnrolmentToken]:
        return EnrolmentToken.objects.visible_to(self.actor).select_related("created_by")


class EnrolmentTokenList(EnrolmentTokenView, Lists, Posts):
    input = EnrolmentTokenInput
    post_output = NewEnrolmentTokenOutput
    shown_once: ClassVar[bool] = True
    permission = "hosts.manage"
    docs = {
        "GET": "List the enrolment tokens, newest first.",
        "POST": "Make a token with which a host of this name enrols itself. Shown once.",
    }

    def perform(self, data: dict[str, Any]) -> EnrolmentToken:
        made, text = enrolment_tokens.create(self.actor, **data)
        made.token = text  # type: ignore[attr-defined]
        return made

    def answer(self, thing: EnrolmentToken) -> Response:
        return Response(NewEnrolmentTokenOutput(thing).data, status=201)


class EnrolmentTokenRevoke(EnrolmentTokenView, Posts):
    status = 200
    permission = "hosts.manage"
    docs = {"POST": "Revoke an enrolment token that was not used. Twice changes nothing."}

    def perform(self, data: dict[str, Any]) -> EnrolmentToken:
        return enrolment_tokens.revoke(self.actor, self.target())
