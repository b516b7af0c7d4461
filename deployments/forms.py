"""The forms of packages, environments and dictionaries. They turn text into values."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from django import forms

from deployments.models import Application, Dictionary, Member
from hosts.forms import TagsField
from hosts.models import Host
from vms.models import VirtualMachine

if TYPE_CHECKING:
    from accounts.actors import Actor

SIBLINGS = [("", "as the package says"), ("finish", "finish"), ("stop", "stop"), ("abort", "abort")]
THEN = [("", "as the package says"), ("hold", "wait for a person"), ("stop", "stop")]


class ImportForm(forms.Form):
    """A package: a file, or YAML that is typed."""

    file = forms.FileField(
        required=False, label="File", help_text="A zip with package.yml, or a YAML file."
    )
    yaml = forms.CharField(
        required=False,
        label="or its YAML",
        strip=False,
        widget=forms.Textarea(attrs={"rows": 14, "class": "mono", "spellcheck": "false"}),
    )

    def clean(self) -> dict[str, Any]:
        values = super().clean() or {}
        if bool(values.get("file")) == bool((values.get("yaml") or "").strip()):
            self.add_error("file", "Give either a file or YAML.")
        return values


class LabelsField(forms.CharField):
    """Labels in one line, as `site=a, rack=7`; the value is a dict."""

    def to_python(self, value: Any) -> dict[str, str]:  # type: ignore[override]
        found = {}
        for pair in (super().to_python(value) or "").split(","):
            key, sign, text = (part.strip() for part in pair.partition("="))
            if not pair.strip():
                continue
            if not (key and sign):
                raise forms.ValidationError("Write labels as site=a, rack=7.")
            found[key] = text
        return found


class EnvironmentForm(forms.Form):
    """An environment, without its members."""

    name = forms.CharField(max_length=100)
    description = forms.CharField(required=False, widget=forms.Textarea(attrs={"rows": 2}))
    dictionaries = forms.CharField(
        required=False,
        help_text="Names in order, separated by commas. The first that has a key wins.",
    )
    max_unavailable = forms.CharField(
        required=False,
        max_length=10,
        label="At once",
        help_text="Members that may change at once, in all tasks: a count, or a share as 25%.",
    )
    siblings = forms.ChoiceField(choices=SIBLINGS, required=False, label="Other branches")
    then = forms.ChoiceField(choices=[*THEN, ("rollback", "roll back")], required=False)

    def clean_dictionaries(self) -> list[Dictionary]:
        found = []
        for name in self.cleaned_data["dictionaries"].split(","):
            if not name.strip():
                continue
            one = Dictionary.objects.filter(name__iexact=name.strip()).first()
            if one is None:
                raise forms.ValidationError(f"There is no dictionary {name.strip()}.")
            found.append(one)
        return found

    def values(self, policy: dict[str, Any]) -> dict[str, Any]:
        """Return the fields of the domain function; `policy` is what there was."""
        given = self.cleaned_data
        limit = given["max_unavailable"].strip()
        failing = {**policy.get("on_failure", {})}
        for name in ("siblings", "then"):
            failing.pop(name, None)
            if given[name]:
                failing[name] = given[name]
        changed = {**policy, "on_failure": failing}
        changed["max_unavailable"] = int(limit) if limit.isdigit() else limit
        return {
            "name": given["name"],
            "description": given["description"],
            "dictionaries": given["dictionaries"],
            "policy": {name: one for name, one in changed.items() if one not in ("", {})},
        }


class MemberForm(forms.Form):
    """A VM, a host, or a tag; and its place in the environment."""

    vm = forms.ModelChoiceField(
        VirtualMachine.objects.none(), required=False, empty_label="–", label="VM"
    )
    host = forms.ModelChoiceField(
        Host.objects.none(), required=False, empty_label="–", label="or host"
    )
    tag = forms.CharField(required=False, max_length=100, label="or all that have the tag")
    noun = forms.ChoiceField(
        choices=[(Member.Noun.VM, "VMs"), (Member.Noun.HOST, "hosts")], label="Tagged are"
    )
    group = forms.IntegerField(required=False)
    sub_group = forms.IntegerField(required=False, label="Sub-group")
    sub_sub_group = forms.IntegerField(required=False, label="Sub-sub-group")
    tags = TagsField(help_text="For mapping, besides those of the VM or host.")
    labels = LabelsField(required=False, help_text="Such as site=a, weight=80.")
    balancer = forms.CharField(required=False, max_length=100, label="Load balancer")

    def __init__(self, *arguments: Any, actor: Actor, **options: Any) -> None:
        super().__init__(*arguments, **options)
        vms = VirtualMachine.objects.visible_to(actor).open().order_by("name")
        self.fields["vm"].queryset = vms  # type: ignore[attr-defined]
        hosts = Host.objects.visible_to(actor).order_by("name")
        self.fields["host"].queryset = hosts  # type: ignore[attr-defined]


class DictionaryForm(forms.Form):
    """A dictionary, without its values."""

    name = forms.CharField(max_length=100)
    description = forms.CharField(required=False, widget=forms.Textarea(attrs={"rows": 2}))
    applications = forms.ModelMultipleChoiceField(
        Application.objects.none(),
        required=False,
        widget=forms.CheckboxSelectMultiple,
        help_text="Only for these; none: for all.",
    )
    containers = forms.CharField(
        required=False,
        label="VMs and hosts",
        help_text="Only for these: names, separated by commas. Empty: for all.",
    )

    def __init__(self, *arguments: Any, actor: Actor, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self.actor = actor
        rows = Application.objects.visible_to(actor).order_by("name")
        self.fields["applications"].queryset = rows  # type: ignore[attr-defined]

    def clean_containers(self) -> list[str]:
        found = []
        for name in self.cleaned_data["containers"].split(","):
            if not (name := name.strip()):
                continue
            vms = VirtualMachine.objects.visible_to(self.actor).open()
            if vm := vms.filter(name__iexact=name).first():
                found.append(f"vm:{vm.pk}")
            elif host := Host.objects.visible_to(self.actor).filter(name__iexact=name).first():
                found.append(f"host:{host.pk}")
            else:
                raise forms.ValidationError(f"There is no VM or host {name} that you may see.")
        return found


class EntryForm(forms.Form):
    """A value of a dictionary."""

    key = forms.CharField(max_length=200)
    value = forms.CharField(
        required=False, strip=False, widget=forms.Textarea(attrs={"rows": 3, "class": "mono"})
    )
    secret = forms.BooleanField(
        required=False, help_text="Encrypted, and never shown again: masked wherever it is used."
    )
