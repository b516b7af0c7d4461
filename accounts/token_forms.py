"""Forms of tokens: a new one, and what one is narrowed to."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING, Any

from django import forms
from django.utils import timezone

from accounts.forms import RunningVmsForm
from accounts.models import User
from accounts.permissions import SCOPES

if TYPE_CHECKING:
    from collections.abc import Iterable
    from datetime import datetime
    from uuid import UUID

    from django.db.models import QuerySet

NEVER = "never"
EXPIRES = [
    ("7", "in 7 days"),
    ("30", "in 30 days"),
    ("90", "in 90 days"),
    ("365", "in a year"),
    (NEVER, "never"),
]


class NarrowingForm(forms.Form):
    """What a token is narrowed to. The templates come from a room above."""

    scopes = forms.MultipleChoiceField(
        label="Scopes",
        choices=[(scope, f"{scope}: {text}") for scope, text in SCOPES.items()],
        widget=forms.CheckboxSelectMultiple,
        initial=["vms"],
        help_text="A token never allows more than its account.",
    )
    templates = forms.MultipleChoiceField(
        label="Only these templates",
        required=False,
        widget=forms.CheckboxSelectMultiple,
        help_text="Choose none to allow every template of the account.",
    )
    networks = forms.CharField(
        label="Only from these networks",
        required=False,
        max_length=2000,
        widget=forms.TextInput(attrs={"autocomplete": "off", "placeholder": "10.0.0.0/8"}),
        help_text="Separated by commas. Leave it empty to allow every address.",
    )
    maximum_vms = forms.IntegerField(
        label="VMs at once",
        required=False,
        min_value=1,
        help_text="How many VMs that it asked for may exist. Leave it empty for no limit.",
    )
    expires_in = forms.ChoiceField(label="Expires", choices=EXPIRES, required=False, initial="90")

    def __init__(
        self, *args: Any, templates: Iterable[tuple[UUID | str, str]], **kwargs: Any
    ) -> None:
        super().__init__(*args, **kwargs)
        self.fields["templates"].choices = list(templates)  # type: ignore[attr-defined]
        if not self.fields["templates"].choices:  # type: ignore[attr-defined]
            del self.fields["templates"]

    def clean_templates(self) -> list[str] | None:
        return self.cleaned_data["templates"] or None

    def clean_networks(self) -> list[str] | None:
        texts = [text.strip() for text in self.cleaned_data["networks"].split(",")]
        return [text for text in texts if text] or None

    def expires_at(self) -> datetime | None:
        """Return the chosen end, None for never."""
        days = self.cleaned_data.get("expires_in")
        return timezone.now() + timedelta(days=int(days)) if days and days != NEVER else None


class TokenForm(NarrowingForm):
    """A new token, or a key pair."""

    name = forms.CharField(
        label="Name",
        max_length=100,
        help_text="Where it will be used: “nightly build”.",
        widget=forms.TextInput(attrs={"autocomplete": "off"}),
    )
    user = forms.ModelChoiceField(User.objects.none(), label="Account", required=False)
    key = forms.CharField(
        label="Key of a key pair",
        required=False,
        max_length=100,
        widget=forms.TextInput(attrs={"autocomplete": "off", "spellcheck": "false"}),
        help_text="For tools that send X-Api-Key. Leave it empty for an ordinary token.",
    )
    secret = forms.CharField(
        label="Its secret",
        required=False,
        strip=False,
        max_length=500,
        widget=forms.PasswordInput(attrs={"autocomplete": "new-password"}),
        help_text="Leave it empty to have one made. An ordinary token has one of its own.",
    )
    field_order = ("name", "user")

    def __init__(self, *args: Any, owners: QuerySet[User], **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.fields["user"].queryset = owners  # type: ignore[attr-defined]
        self.fields["user"].empty_label = "me"  # type: ignore[attr-defined]
        if not owners:
            del self.fields["user"]

    def clean(self) -> dict[str, Any]:
        values = super().clean() or self.cleaned_data
        if values.get("secret") and not values.get("key"):
            self.add_error("secret", "Give a key, too, or leave this empty.")
        return values


class TokenChangesForm(NarrowingForm, RunningVmsForm):
    """Another narrowing of a token. Only what is different from now is changed."""

    SAME = ""
    field_order = ("scopes", "templates", "networks", "maximum_vms", "expires_in", "running_vms")

    def __init__(self, *args: Any, expires_at: datetime | None, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        shown = f"{expires_at:%Y-%m-%d %H:%M} UTC" if expires_at else "never"
        choices = [(self.SAME, f"as now: {shown}"), *EXPIRES]
        self.fields["expires_in"].choices = choices  # type: ignore[attr-defined]

    def changes(self) -> dict[str, Any]:
        """Return what `accounts.token_changes.change_token` is to change."""
        names = ("scopes", "templates", "networks", "maximum_vms")
        changes = {name: self.cleaned_data[name] for name in names if name in self.changed_data}
        if self.cleaned_data.get("expires_in"):
            changes["expires_at"] = self.expires_at()
        return changes
