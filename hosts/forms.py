"""The forms of the host pages. They turn text into values; rules are the domain functions'."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import django_filters
from django import forms
from django.db.models import Exists, OuterRef, Q, TextField
from django.db.models.functions import Cast
from django.db.models.lookups import Contains
from django.http import QueryDict

from hosts.looking import MAXIMUM_LINES
from hosts.models import Architecture, Health, Host, HostHold

if TYPE_CHECKING:
    from django.db.models import QuerySet


class TagsField(forms.CharField):
    """Tags in one line, between commas; the value is a list."""

    def __init__(self, **options: Any) -> None:
        options.setdefault("required", False)
        options.setdefault("help_text", "Separate tags with commas.")
        super().__init__(**options)

    def to_python(self, value: Any) -> list[str]:  # type: ignore[override]
        text = value if isinstance(value, str) else ",".join(value or ())
        return [tag for tag in (part.strip() for part in text.split(",")) if tag]

    def prepare_value(self, value: Any) -> Any:
        return value if isinstance(value, str) or value is None else ", ".join(value)


class SecretInput(forms.PasswordInput):
    """A field that no browser fills with the reader's own password. It is never rendered back."""

    def __init__(self) -> None:
        super().__init__(attrs={"autocomplete": "new-password"})


class MomentField(forms.DateTimeField):
    """A moment in UTC, picked in the browser."""

    def __init__(self, **options: Any) -> None:
        options.setdefault("required", False)
        options.setdefault("help_text", "In UTC. Leave it empty for no end.")
        super().__init__(
            widget=forms.DateTimeInput(attrs={"type": "datetime-local"}, format="%Y-%m-%dT%H:%M"),
            **options,
        )


class SearchInput(forms.TextInput):
    """A box that narrows a list while it is typed into (`partials/filters.html`)."""

    input_type = "search"


class HostFilters(django_filters.FilterSet):
    """What the list of hosts can be narrowed by."""

    q = django_filters.CharFilter(method="search", label="Search", widget=SearchInput)
    health = django_filters.ChoiceFilter(
        field_name="status__health",
        label="Health",
        choices=Health.choices,
        empty_label="Any health",
    )
    architecture = django_filters.ChoiceFilter(
        field_name="status__architecture",
        label="Architecture",
        choices=Architecture.choices,
        empty_label="Any architecture",
    )
    hold = django_filters.ChoiceFilter(
        method="held", choices=HostHold.Kind.choices, label="Hold", empty_label="With and without"
    )
    tag = django_filters.CharFilter(method="tagged", label="Tag", widget=SearchInput)

    class Meta:
        model = Host
        fields: list[str] = []

    def search(self, hosts: QuerySet[Host], name: str, text: str) -> QuerySet[Host]:
        return hosts.filter(Q(name__icontains=text) | Q(url__icontains=text))

    def held(self, hosts: QuerySet[Host], name: str, kind: str) -> QuerySet[Host]:
        held = HostHold.objects.live().filter(host=OuterRef("pk"), kind=kind)
        return hosts.filter(Exists(held))

    def tagged(self, hosts: QuerySet[Host], name: str, tag: str) -> QuerySet[Host]:
        return hosts.filter(has_tag(tag))


def has_tag(tag: str, field: str = "tags") -> Q:
    """Return the condition that a JSON list of tags has `tag`. SQLite has no `contains` for JSON.

    The two stores write letters beyond ASCII in their own way, so both ways are looked for.
    """
    text = Cast(field, TextField())
    spellings = {json.dumps(tag), json.dumps(tag, ensure_ascii=False)}
    condition = Q()
    for spelling in spellings:
        condition |= Q(Contains(text, spelling))
    return condition


class PinForm(forms.Form):
    """A form that can pin the certificate that a host showed: a box appears after the refusal."""

    tls_fingerprint = forms.CharField(
        required=False,
        label="Pinned TLS certificate",
        help_text="SHA-256 of the only certificate to accept. Empty: any trusted one.",
    )
    shown_fingerprint = forms.CharField(required=False, widget=forms.HiddenInput)
    pin = forms.BooleanField(required=False)

    def clean(self) -> dict[str, Any]:
        values = super().clean() or {}
        shown = values.pop("shown_fingerprint", "")
        if values.pop("pin", False) and shown:
            values["tls_fingerprint"] = shown
        return values

    def offer_pin(self, fingerprint: str) -> None:
        """Show the box that pins `fingerprint`, not ticked."""
        assert isinstance(self.data, QueryDict)
        data = self.data.copy()
        data["shown_fingerprint"] = fingerprint
        data.pop("pin", None)
        self.data = data

    @property
    def fingerprint_offered(self) -> str:
        return str(self.data.get("shown_fingerprint", ""))


class EnrolForm(PinForm):
    """A new host. `enrol_anyway` appears only after the refusal of a machine that is known."""

    name = forms.CharField(max_length=100)
    url = forms.CharField(
        label="Address",
        max_length=300,
        widget=forms.TextInput(
            attrs={"placeholder": "https://mac-07.example.com:8080", "inputmode": "url"}
        ),
    )
    username = forms.CharField(required=False, max_length=200, label="User name")
    password = forms.CharField(required=False, strip=False, widget=SecretInput)
    api_key = forms.CharField(
        required=False,
        label="API key",
        widget=SecretInput,
        help_text="As key:secret, instead of user name and password.",
    )
    tags = TagsField()
    allow_known_machine = forms.BooleanField(
        required=False, label="This is a different machine: enrol it anyway"
    )
    known_machine = False

    def offer_anyway(self) -> None:
        self.known_machine = True


class ConnectionForm(PinForm):
    """New credentials of a host. What is left empty stays as it is; secrets are never shown."""

    username = forms.CharField(required=False, max_length=200, label="User name")
    password = forms.CharField(
        required=False, strip=False, widget=SecretInput, help_text="Empty: as it is."
    )
    api_key = forms.CharField(
        required=False,
        label="API key",
        widget=SecretInput,
        help_text="As key:secret, instead of user name and password. Empty: as it is.",
    )

    def clean(self) -> dict[str, Any]:
        values = super().clean()
        return {
            **values,
            **{name: values.get(name) or None for name in ("username", "password", "api_key")},
        }


class HostForm(forms.Form):
    """Name and tags of a host."""

    name = forms.CharField(max_length=100)
    tags = TagsField()


class HoldForm(forms.Form):
    """Why a host must not be used, for everybody to see."""

    reason = forms.CharField(
        max_length=300,
        widget=forms.TextInput(attrs={"placeholder": "Such as: disk is being replaced"}),
    )
    until = MomentField(label="Until")


class WindowForm(forms.Form):
    """A window of maintenance."""

    reason = forms.CharField(max_length=300)
    starts_at = MomentField(label="Begins", help_text="In UTC. Empty: at once.")
    until = MomentField(label="Ends", required=True, help_text="In UTC.")


class RemoveForm(forms.Form):
    """Remove a host, with or without its VMs."""

    forget_vms = forms.BooleanField(
        required=False,
        label="Forget our VMs on it",
        help_text="They stay on the machine as they are; nobody watches or ends them any more.",
    )


class RegisterForm(forms.Form):
    """A VM of the host's disk."""

    path = forms.CharField(max_length=1000, help_text="Of a .pvm or .macvm on the host's disk.")
    name = forms.CharField(required=False, max_length=200, help_text="Empty: its own.")
    new_id = forms.BooleanField(
        required=False, label="Give it a new id: it is a copy of a VM that the host lists"
    )


class UnregisterForm(forms.Form):
    """A foreign VM that the host shall list no longer."""

    host_vm_id = forms.CharField(max_length=255, widget=forms.HiddenInput)


class LogsForm(forms.Form):
    """How much of a host's log."""

    lines = forms.IntegerField(min_value=1, max_value=MAXIMUM_LINES)
