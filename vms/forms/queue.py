"""The forms of the queue and its quotas."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from django import forms
from django.contrib.auth import get_user_model

from accounts.models import Role
from vms.forms.templates import AccountChoice, offer_subjects

if TYPE_CHECKING:
    pass


class HoldQueueForm(forms.Form):
    """Why the queue is held."""

    note = forms.CharField(
        max_length=300,
        widget=forms.TextInput(attrs={"placeholder": "Such as: a new image is being checked"}),
    )


class QuotaChangesForm(forms.Form):
    """How much may be placed at once."""

    maximum_vms = forms.IntegerField(required=False, min_value=0, label="VMs")
    maximum_cpus = forms.IntegerField(required=False, min_value=0, label="CPUs")
    maximum_memory_mib = forms.IntegerField(
        required=False, min_value=0, label="Memory (MiB)", help_text="Empty: no limit."
    )
    borrow = forms.BooleanField(
        required=False, label="More is allowed while nobody within their quota wants it"
    )


class QuotaForm(QuotaChangesForm):
    """Whose quota it is, too."""

    user = AccountChoice(queryset=get_user_model().objects.none(), required=False, empty_label="–")
    role = forms.ModelChoiceField(
        queryset=Role.objects.none(), required=False, empty_label="–", label="or role"
    )
    field_order = ["user", "role"]

    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        offer_subjects(self)
