"""The forms of who may use what. They turn text into values; rules are the domain's."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import django_filters
from django import forms
from django.contrib.auth import get_user_model
from django.db.models import Q

from accounts.models import Role
from hosts.forms import MomentField, SearchInput
from vms.forms import DurationField
from vms.models import Grant, Template

if TYPE_CHECKING:
    from django.db.models import QuerySet

LEVELS = [(Grant.Level.USE, "Use"), (Grant.Level.MANAGE, "Manage: use, change and grant")]


class MatrixForm(forms.Form):
    """What the matrix is narrowed by."""

    subject = forms.CharField(required=False, label="Account or role", widget=SearchInput)
    template = forms.CharField(required=False, label="Template", widget=SearchInput)


class AccessRequestForm(forms.Form):
    """Asking for a template, by name: a list would tell which there are."""

    template = forms.CharField(max_length=100, help_text="Its name.")
    reason = forms.CharField(
        max_length=500,
        widget=forms.Textarea(attrs={"rows": 3}),
        help_text="What you need it for, and for how long.",
    )


class TermsForm(forms.Form):
    """At which level, within which limits, and until when."""

    level = forms.ChoiceField(choices=LEVELS)
    maximum_vms = forms.IntegerField(
        required=False, min_value=1, label="VMs at once", help_text="Empty: no limit."
    )
    maximum_lease_seconds = DurationField(
        required=False, label="Longest lease", help_text="Such as 8h. Empty: the template's."
    )
    expires_at = MomentField(label="Expires")


class ApproveForm(TermsForm):
    """What a request is approved with."""

    answer = forms.CharField(required=False, max_length=500, label="A word to them")


class DeclineForm(forms.Form):
    """What a request is declined with."""

    answer = forms.CharField(
        max_length=500, label="A word to them", help_text="Why, and what to do instead."
    )


class GrantManyForm(TermsForm):
    """Many templates to many accounts and roles, on the same terms."""

    templates = forms.ModelMultipleChoiceField(queryset=Template.objects.none())
    users = forms.ModelMultipleChoiceField(
        queryset=get_user_model().objects.none(), required=False, label="Accounts"
    )
    roles = forms.ModelMultipleChoiceField(queryset=Role.objects.none(), required=False)
    selection = forms.CharField(required=False, widget=forms.HiddenInput)

    field_order = ("templates", "users", "roles")

    def __init__(self, *arguments: Any, templates: QuerySet[Template], **options: Any) -> None:
        super().__init__(*arguments, **options)
        fields: Any = self.fields
        fields["templates"].queryset = templates.order_by("name")
        accounts = get_user_model().objects.filter(is_active=True)
        fields["users"].queryset = accounts.order_by("username")
        fields["roles"].queryset = Role.objects.select_related("group").order_by("group__name")


class GrantFilters(django_filters.FilterSet):
    """What the list of grants can be narrowed by."""

    template = django_filters.CharFilter(
        field_name="template__name", lookup_expr="icontains", label="Template", widget=SearchInput
    )
    subject = django_filters.CharFilter(
        method="by_subject", label="Account or role", widget=SearchInput
    )
    state = django_filters.ChoiceFilter(
        method="in_state",
        label="State",
        choices=[("live", "Live"), ("ended", "Ended")],
        empty_label="Live and ended",
    )

    class Meta:
        model = Grant
        fields: list[str] = []

    def by_subject(self, rows: QuerySet[Grant], name: str, text: str) -> QuerySet[Grant]:
        return rows.filter(Q(user__username__icontains=text) | Q(role__group__name__icontains=text))

    def in_state(self, rows: QuerySet[Grant], name: str, state: str) -> QuerySet[Grant]:
        live = Grant.objects.live().values("pk")
        return rows.filter(pk__in=live) if state == "live" else rows.exclude(pk__in=live)
