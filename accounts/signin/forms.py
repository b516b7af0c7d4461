"""The forms of signing in. Rules are the domain functions'."""

from __future__ import annotations

from typing import Any

from allauth.account.forms import ResetPasswordForm
from django import forms

from accounts.forms import RolesField
from accounts.models import User


class ForgottenForm(ResetPasswordForm):
    """Whoever forgot a password; nobody else gets one by mail."""

    users: list[User]

    def clean_email(self) -> str:
        email: str = super().clean_email()
        # Who comes by single sign-on has none to forget: a local one would lead around it.
        self.users = [
            user
            for user in self.users
            if user.kind == User.Kind.PERSON and user.has_usable_password()
        ]
        return email


class _NewPassword(forms.Form):
    password = forms.CharField(
        label="Password",
        strip=False,
        widget=forms.PasswordInput(attrs={"autocomplete": "new-password"}),
        help_text="At least 10 characters.",
    )
    again = forms.CharField(
        label="Password again",
        strip=False,
        widget=forms.PasswordInput(attrs={"autocomplete": "new-password"}),
    )

    def clean(self) -> dict[str, Any]:
        data: dict[str, Any] = super().clean() or {}
        if data.get("password") != data.pop("again", None):
            self.add_error("again", "The two differ.")
        return data


class AcceptForm(_NewPassword):
    """The password of an account that one was invited to."""


class SetupForm(_NewPassword):
    """The first administrator."""

    code = forms.CharField(
        label="Setup code",
        widget=forms.TextInput(attrs={"autocomplete": "off"}),
        help_text="It is in the log of the server that shows this page, as “setup.code”; or run "
        "“manage.py setup_code” there.",
    )
    username = forms.CharField(
        label="Name", max_length=150, widget=forms.TextInput(attrs={"autocomplete": "username"})
    )
    email = forms.EmailField(label="Mail address", required=False)
    field_order = ("code", "username", "email", "password", "again")


class InvitationForm(forms.Form):
    """Whom to invite, and what they may do."""

    username = forms.CharField(
        label="Name", max_length=150, widget=forms.TextInput(attrs={"autocomplete": "off"})
    )
    email = forms.EmailField(label="Mail address", required=False)
    roles = RolesField(label="Roles")
