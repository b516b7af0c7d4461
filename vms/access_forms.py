"""The forms of who may use what. They turn text into values; rules are the domain's."""

from __future__ import annotations

from django import forms

from hosts.forms import MomentField, SearchInput
from vms.forms import DurationField
from vms.models import Grant

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
