"""The forms of who may use what. They turn text into values; rules are the domain's."""

from __future__ import annotations

from django import forms

from hosts.forms import SearchInput


class MatrixForm(forms.Form):
    """What the matrix is narrowed by."""

    subject = forms.CharField(required=False, label="Account or role", widget=SearchInput)
    template = forms.CharField(required=False, label="Template", widget=SearchInput)
