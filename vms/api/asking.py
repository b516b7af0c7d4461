"""Requests for access to templates."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import django_filters
from rest_framework import serializers

from accounts.api.serializers import UserReference
from jobs.api import VerbView
from orchestrator.api.serializers import Input, Moment, OneOf, Output, Text, Whole
from orchestrator.api.views import ApiView, Lists, Posts, Shows
from vms import asking
from vms.models import AccessRequest, Grant

if TYPE_CHECKING:
    from django.db.models import QuerySet

    from jobs.models import Job


class AccessRequestOutput(Output):
    """An account asks for a template."""

    id = serializers.UUIDField()
    template = serializers.CharField(
        source="name", help_text="Its name, as it was asked for. There may be none of that name."
    )
    user = UserReference()
    reason = serializers.CharField()
    state = serializers.ChoiceField(AccessRequest.State.choices)
    answer = serializers.CharField(help_text="What was said to who asked.")
    answered_by = UserReference(allow_null=True)
    answered_at = serializers.DateTimeField(allow_null=True)
    grant = serializers.UUIDField(
        source="grant_id", allow_null=True, help_text="What an approval gave."
    )
    created_at = serializers.DateTimeField()


class AccessRequestInput(Input):
    template = Text(max_length=100, help_text="A name; or the id of one that you may see.")
    reason = Text(max_length=500)


class ApproveInput(Input):
    level = OneOf(Grant.Level.choices, required=False, help_text="Default: use.")
    maximum_vms = Whole(min_value=1, required=False, allow_null=True)
    maximum_lease_seconds = Whole(min_value=1, required=False, allow_null=True)
    expires_at = Moment(required=False, allow_null=True)
    answer = Text(max_length=500, required=False, allow_blank=True)


class DeclineInput(Input):
    answer = Text(max_length=500, help_text="Why, so that they know what to do instead.")


class AccessRequestFilter(django_filters.FilterSet):
    state = django_filters.ChoiceFilter(choices=AccessRequest.State.choices)

    class Meta:
        model = AccessRequest
        fields = ["state"]


class AccessRequestView(ApiView):
    tag = "access-requests"
    model = AccessRequest
    output: Any = AccessRequestOutput

    def rows(self) -> QuerySet[AccessRequest]:
        return AccessRequest.objects.visible_to(self.actor).for_page()


class AccessRequestList(AccessRequestView, Lists, Posts):
    input = AccessRequestInput
    filterset_class = AccessRequestFilter
    permission = "vms.use"
    docs = {
        "GET": "List your own requests for access, and those for templates that you manage.",
        "POST": "Ask for access to a template, with a reason. A name that you may not see is taken "
        "all the same; the answer tells nothing about whether it exists.",
    }

    def perform(self, data: dict[str, Any]) -> AccessRequest:
        return asking.request_access(self.actor, **data)


class AccessRequestItem(AccessRequestView, Shows):
    docs = {"GET": "Show a request for access."}


class AccessRequestVerb(AccessRequestView, VerbView):
    output = VerbView.output


class AccessRequestApprove(AccessRequestVerb):
    input = ApproveInput
    docs = {"POST": "Approve: the account gets a grant, at a level, within limits, until an end."}

    def act(self, target: AccessRequest, data: dict[str, Any]) -> Job:
        return asking.approve(self.actor, target, **data)


class AccessRequestDecline(AccessRequestVerb):
    input = DeclineInput
    docs = {"POST": "Decline, with a word to who asked."}

    def act(self, target: AccessRequest, data: dict[str, Any]) -> Job:
        return asking.decline(self.actor, target, **data)


class AccessRequestWithdraw(AccessRequestVerb):
    docs = {"POST": "Take your own request back."}

    def act(self, target: AccessRequest, data: dict[str, Any]) -> Job:
        return asking.withdraw(self.actor, target)
