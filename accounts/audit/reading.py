"""Narrowing the audit trail: the same words on the page, in the API and for exports."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import django_filters
from django.db.models import Q, TextField
from django.db.models.functions import Cast

from accounts.models import AuditEvent

if TYPE_CHECKING:
    from django.db.models import QuerySet

SEARCHED = (
    "action",
    "actor_name",
    "token_name",
    "address",
    "request_id",
    "subject",
    "subject_name",
    "text",
)
MOST_WORDS = 8


class AuditFilter(django_filters.FilterSet):
    """Who, what, about what, with which outcome, when; and words anywhere in it."""

    q = django_filters.CharFilter(
        method="by_words",
        label="Search",
        help_text="Words that all occur in an event, in what changed too.",
    )
    action = django_filters.CharFilter(
        lookup_expr="istartswith", label="Action", help_text="`template.granted`, or `template`."
    )
    actor = django_filters.CharFilter(
        field_name="actor_name", lookup_expr="iexact", label="Who", help_text="The account's name."
    )
    actor_id = django_filters.UUIDFilter()
    token_id = django_filters.UUIDFilter()
    address = django_filters.CharFilter(label="Address", help_text="From where it was asked.")
    request_id = django_filters.CharFilter(help_text="All that one request did.")
    subject = django_filters.CharFilter(
        method="about", label="About", help_text="`vm:<id>`, or a part of its name."
    )
    outcome = django_filters.ChoiceFilter(
        choices=AuditEvent.Outcome.choices, label="Outcome", empty_label="Any outcome"
    )
    since = django_filters.IsoDateTimeFilter(
        field_name="created_at", lookup_expr="gte", label="Since"
    )
    until = django_filters.IsoDateTimeFilter(
        field_name="created_at", lookup_expr="lt", label="Until"
    )

    class Meta:
        model = AuditEvent
        fields = [
            *("q", "action", "actor", "actor_id", "token_id", "address", "request_id"),
            *("subject", "outcome", "since", "until"),
        ]

    def about(self, rows: QuerySet[AuditEvent], name: str, text: str) -> QuerySet[AuditEvent]:
        if ":" in text:
            return rows.filter(subject=text)
        return rows.filter(subject_name__icontains=text)

    def by_words(self, rows: QuerySet[AuditEvent], name: str, text: str) -> QuerySet[AuditEvent]:
        return search(rows, text)


def search(rows: QuerySet[AuditEvent], text: str) -> QuerySet[AuditEvent]:
    """Return the rows in which each word of `text` occurs, ignoring case (SQLite: of a–z only)."""
    rows = rows.annotate(text=Cast("data", TextField()))
    for word in text.split()[:MOST_WORDS]:
        anywhere = Q()
        for field in SEARCHED:
            anywhere |= Q(**{f"{field}__icontains": word})
        # As JSON has it: SQLite keeps all but ASCII, and both stores keep quotes, escaped.
        anywhere |= Q(text__icontains=json.dumps(word)[1:-1])
        rows = rows.filter(anywhere)
    return rows
