"""The forms of packages, environments and dictionaries. They turn text into values."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from django import forms

from accounts.models import Role, User
from deployments.models import Application, Dictionary, EnvironmentAccess, Member
from hosts.forms import TagsField
from hosts.models import Host
from vms.forms.durations import DurationField
from vms.forms.templates import AccountChoice, offer_subjects
from vms.models import VirtualMachine

if TYPE_CHECKING:
    from accounts.actors import Actor

SCRIPT = forms.Textarea(attrs={"rows": 2, "class": "mono", "spellcheck": "false"})


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


class BalancerForm(forms.Form):
    """A load balancer: by which scripts, on which VM, members are taken out and put back."""

    name = forms.CharField(max_length=100, help_text="Members name it as their load balancer.")
    vm = forms.ModelChoiceField(
        VirtualMachine.objects.none(),
        empty_label="–",
        label="VM",
        help_text="On which the scripts run, such as the balancer itself.",
    )
    disable = forms.CharField(
        label="Take a member out",
        widget=SCRIPT,
        help_text="Commands for /bin/sh; {{member}} stands for the member’s name.",
    )
    enable = forms.CharField(
        label="Put it back", widget=SCRIPT, help_text="As above. Run when the member is done."
    )
    timeout_seconds = DurationField(required=False, label="Time limit", help_text="Empty: 5 min.")

    def __init__(self, *arguments: Any, actor: Actor, **options: Any) -> None:
        super().__init__(*arguments, **options)
        vms = VirtualMachine.objects.visible_to(actor).open().order_by("name")
        self.fields["vm"].queryset = vms  # type: ignore[attr-defined]

    def values(self) -> dict[str, Any]:
        """Return the balancer as the environment keeps it."""
        given = {name: value for name, value in self.cleaned_data.items() if value is not None}
        return {**given, "vm": str(given["vm"].pk)}


class AccessForm(forms.Form):
    """Who may act in a restricted environment, and how far."""

    user = AccountChoice(queryset=User.objects.none(), required=False, empty_label="–")
    role = forms.ModelChoiceField(
        queryset=Role.objects.none(), required=False, empty_label="–", label="or role"
    )
    level = forms.ChoiceField(
        label="May",
        initial=EnvironmentAccess.Level.DEPLOY,
        choices=[
            ("control", "Control tasks: stop, continue, skip, approve, cancel"),
            ("deploy", "Deploy: that, and plan, start and roll back"),
            ("administer", "Administer: that, and change the environment and this list"),
        ],
    )

    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        offer_subjects(self)


class Sure(forms.Form):
    """A question that is answered by its button."""


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
    balancer = forms.CharField(
        required=False,
        max_length=100,
        label="Load balancer",
        help_text="Its name. Without scripts for it here, a person is asked to act.",
    )

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
