"""The forms of the account pages. They turn text into values; rules are the domain functions'."""

from __future__ import annotations

from copy import deepcopy
from typing import Any, ClassVar

import django_filters
from django import forms

from accounts.audit.reading import AuditFilter
from accounts.models import Role, User
from accounts.permissions import PERMISSIONS
from accounts.rotation import OVERLAP_SECONDS
from accounts.service_accounts import LONGEST_DESCRIPTION
from accounts.users import HEAVIEST

RUNNING_VMS = [
    ("keep", "Keep them running"),
    ("stop", "Stop them"),
    ("delete", "Delete them"),
]


class RunningVmsForm(forms.Form):
    """What becomes of the VMs that rest on what is taken away."""

    running_vms = forms.ChoiceField(
        label="VMs that exist",
        choices=RUNNING_VMS,
        initial="keep",
        widget=forms.RadioSelect,
        help_text="What waits in the queue is cancelled in any case.",
    )


class RolesField(forms.ModelMultipleChoiceField):
    """Roles as checkboxes."""

    def __init__(self, **options: Any) -> None:
        super().__init__(
            Role.objects.select_related("group").order_by("group__name"),
            widget=forms.CheckboxSelectMultiple,
            required=False,
            **options,
        )


class UserForm(forms.Form):
    """A new account for a person or a pipeline."""

    kind = forms.ChoiceField(
        label="Kind",
        choices=[
            (User.Kind.PERSON, "Person: signs in with a password"),
            (User.Kind.SERVICE, "Service account: has tokens only"),
        ],
        initial=User.Kind.PERSON,
        widget=forms.RadioSelect,
    )
    username = forms.CharField(
        label="Name", max_length=150, widget=forms.TextInput(attrs={"autocomplete": "off"})
    )
    email = forms.EmailField(label="Mail address", required=False)
    password = forms.CharField(
        label="Password",
        required=False,
        strip=False,
        widget=forms.PasswordInput(attrs={"autocomplete": "new-password"}),
        help_text="For a person. At least 10 characters; ask them to change it.",
    )
    roles = RolesField(label="Roles")


class DescriptionForm(forms.Form):
    """What a service account is for."""

    description = forms.CharField(
        label="Description",
        required=False,
        max_length=LONGEST_DESCRIPTION,
        help_text="What it is for, and whom to ask.",
    )


class ServiceAccountForm(DescriptionForm):
    """A new account for a pipeline."""

    username = forms.CharField(
        label="Name", max_length=150, widget=forms.TextInput(attrs={"autocomplete": "off"})
    )
    roles = RolesField(label="Roles")
    field_order = ("username", "description", "roles")


class RolesForm(RunningVmsForm):
    """Which roles an account has."""

    roles = RolesField(label="Roles")
    field_order = ("roles", "running_vms")


class RotateForm(forms.Form):
    """How long the old secret works beside the new one."""

    overlap_seconds = forms.TypedChoiceField(
        label="The old secret works for",
        coerce=int,
        choices=[
            ("0", "no time: it ends now"),
            ("3600", "an hour"),
            (str(OVERLAP_SECONDS), "a day"),
            ("604800", "a week"),
        ],
        initial=str(OVERLAP_SECONDS),
        widget=forms.RadioSelect,
        help_text="Put the new one where it is used, then end the old one.",
    )


class UserFilters(django_filters.FilterSet):
    """What the list of accounts can be narrowed by."""

    q = django_filters.CharFilter(
        field_name="username",
        lookup_expr="icontains",
        label="Search",
        widget=forms.TextInput(attrs={"type": "search", "placeholder": "Name"}),
    )
    kind = django_filters.ChoiceFilter(
        choices=[("person", "people"), ("service", "service accounts")], empty_label="Any kind"
    )
    role = django_filters.ModelChoiceFilter(
        queryset=Role.objects.select_related("group").order_by("group__name"),
        field_name="groups__role",
        label="Role",
        empty_label="Any role",
    )

    class Meta:
        model = User
        fields = ["q", "kind", "role"]


def _search_box(placeholder: str) -> forms.TextInput:
    return forms.TextInput(attrs={"type": "search", "placeholder": placeholder})


def _clock() -> forms.DateTimeInput:
    return forms.DateTimeInput(attrs={"type": "datetime-local"})


class AuditFilters(AuditFilter):
    """What the page of the audit trail can be narrowed by: the API's filters, as a form."""

    WIDGETS: ClassVar[dict[str, forms.Widget]] = {
        "q": _search_box("Any words"),
        "action": _search_box("template.granted"),
        "actor": _search_box("Account"),
        "subject": _search_box("Name or vm:<id>"),
        "address": _search_box("10.0.0.7"),
        "since": _clock(),
        "until": _clock(),
    }
    # What links lead to and nobody types.
    HIDDEN = ("actor_id", "token_id", "request_id")

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        for name, field in self.form.fields.items():
            field.help_text = ""
            if name in self.HIDDEN:
                field.widget = forms.HiddenInput()
            elif name in self.WIDGETS:
                field.widget = deepcopy(self.WIDGETS[name])


class WeightForm(forms.Form):
    """How large a role's share of the pool is."""

    weight = forms.IntegerField(min_value=1, max_value=HEAVIEST)


class RoleForm(forms.Form):
    """A role of one's own: a name and single permissions."""

    name = forms.CharField(max_length=100)
    permissions = forms.MultipleChoiceField(
        choices=[(code, permission.label) for code, permission in PERMISSIONS.items()],
        widget=forms.CheckboxSelectMultiple,
        required=False,
    )


class RoleChangesForm(RoleForm, RunningVmsForm):
    """A change of a role, and what becomes of the VMs of those who lose by it."""

    field_order = ("name", "permissions", "running_vms")
