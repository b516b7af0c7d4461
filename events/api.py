"""`/api/v2/events/` as JSON. The stream of the same address is served by the ASGI front."""

from __future__ import annotations

from typing import TYPE_CHECKING

import django_filters
from rest_framework import serializers

from events.models import Event
from orchestrator.api.pagination import BySequence
from orchestrator.api.routing import route
from orchestrator.api.serializers import Output
from orchestrator.api.views import Lists

if TYPE_CHECKING:
    from django.db.models import QuerySet


class EventOutput(Output):
    """One thing that happened."""

    sequence = serializers.IntegerField(help_text="Ask `?after=` this number for what follows.")
    kind = serializers.CharField(help_text="`vm.changed`.")
    subject = serializers.CharField(help_text="`vm:<id>`.")
    data = serializers.DictField()  # type: ignore[assignment]
    created_at = serializers.DateTimeField()


class EventFilter(django_filters.FilterSet):
    kind = django_filters.CharFilter(help_text="`vm.changed`.")
    subject = django_filters.CharFilter(help_text="`vm:<id>`.")

    class Meta:
        model = Event
        fields = ["kind", "subject"]


class EventList(Lists):
    tag = "events"
    model = Event
    output = EventOutput
    pagination_class = BySequence
    filterset_class = EventFilter
    docs = {
        "GET": "Read what happened, oldest first, behind the number `after`. With "
        "`Accept: text/event-stream` the answer is a stream that goes on."
    }

    def rows(self) -> QuerySet[Event]:
        return Event.objects.sealed().readable(self.actor.user_id, self.actor.audience)


urlpatterns = [route("events/", EventList, "events")]
