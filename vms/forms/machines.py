"""The forms of VMs and their verbs, and of the drain of a host."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import django_filters
from django import forms
from django.db.models import Q

from hosts.forms import MomentField, SearchInput, TagsField
from hosts.models import Host
from vms.forms.durations import DurationField
from vms.forms.templates import usable_templates
from vms.models import Drain, Template, VirtualMachine
from vms.states import State

if TYPE_CHECKING:
    from django.db.models import QuerySet

    from accounts.actors import Actor


class VMFilters(django_filters.FilterSet):
    """What the list of VMs can be narrowed by."""

    q = django_filters.CharFilter(method="search", label="Search", widget=SearchInput)
    state = django_filters.ChoiceFilter(
        method="in_state",
        label="State",
        choices=[("open", "Not ended"), ("problem", "With a problem"), *State.choices],
        empty_label="Any state",
    )
    template = django_filters.ModelChoiceFilter(
        queryset=Template.objects.none(), label="Template", empty_label="Any template"
    )
    # A pool may have a thousand hosts: a name is typed, not chosen from a list of them.
    host = django_filters.CharFilter(
        field_name="host__name", lookup_expr="icontains", label="Host", widget=SearchInput
    )
    owner = django_filters.CharFilter(
        field_name="requested_by__username",
        lookup_expr="icontains",
        label="Owner",
        widget=SearchInput,
    )
    whose = django_filters.ChoiceFilter(
        method="of", label="Whose", choices=[("mine", "Mine")], empty_label="Everybody’s"
    )

    class Meta:
        model = VirtualMachine
        fields: list[str] = []

    def __init__(self, *arguments: Any, actor: Actor, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self.actor = actor
        templates = Template.objects.visible_to(actor).order_by("name")
        self.filters["template"].field.queryset = templates
        if not actor.can("hosts.view"):
            del self.filters["host"]
        if not (actor.can("vms.view_all") or actor.can("vms.view_roles")):  # only one's own
            del self.filters["owner"], self.filters["whose"]

    def search(
        self, vms: QuerySet[VirtualMachine], name: str, text: str
    ) -> QuerySet[VirtualMachine]:
        return vms.filter(Q(name__icontains=text) | Q(ip_address__icontains=text))

    def of(self, vms: QuerySet[VirtualMachine], name: str, whose: str) -> QuerySet[VirtualMachine]:
        return vms.filter(requested_by=self.actor.user_id)

    def in_state(
        self, vms: QuerySet[VirtualMachine], name: str, state: str
    ) -> QuerySet[VirtualMachine]:
        if state == "open":
            return vms.exclude(state__in=State.final())
        if state == "problem":
            return vms.exclude(state__in=State.final()).exclude(problem="", missing_since=None)
        return vms.filter(state=state)


class VMForm(forms.Form):
    """A request for a VM. What is left empty is the template's."""

    template = forms.ModelChoiceField(queryset=Template.objects.none(), empty_label=None)
    name = forms.CharField(
        required=False, max_length=63, help_text="Empty: a name is made from the template's."
    )
    lease_seconds = DurationField(
        required=False, label="Lease", help_text="Such as 45m, 8h or 1d 12h. Empty: the template's."
    )
    cpus = forms.IntegerField(required=False, min_value=1, label="CPUs")
    memory_mib = forms.IntegerField(required=False, min_value=1, label="Memory (MiB)")
    disk_gib = forms.IntegerField(required=False, min_value=1, label="Disk (GiB)")
    priority = forms.TypedChoiceField(
        coerce=int,
        initial=5,
        choices=[
            (number, {9: "9 (first)", 5: "5 (normal)", 0: "0 (last)"}.get(number, str(number)))
            for number in range(9, -1, -1)
        ],
    )
    host = forms.ModelChoiceField(
        queryset=Host.objects.none(), required=False, empty_label="The best one"
    )
    maximum_wait_seconds = DurationField(
        required=False, label="Wait at most", help_text="Such as 1h. Then it is given up."
    )
    tags = TagsField()
    start = forms.TypedChoiceField(
        required=False,
        label="Start it",
        coerce=lambda text: {"yes": True, "no": False}[text],
        empty_value=None,
        choices=[("", "As the template says"), ("yes", "Yes"), ("no", "No")],
    )

    def __init__(self, *arguments: Any, actor: Actor, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self.fields["template"].queryset = usable_templates(actor)  # type: ignore[attr-defined]
        if actor.can("hosts.view"):
            self.fields["host"].queryset = _hosts(actor)  # type: ignore[attr-defined]
        else:
            del self.fields["host"]


class HoldForm(forms.Form):
    """Why a VM is kept, and for how long."""

    reason = forms.CharField(max_length=300)
    seconds = DurationField(label="For", help_text="Such as 2h.")


class ExtendForm(forms.Form):
    """How long a VM may live from now."""

    seconds = DurationField(label="From now")


class ExtendManyForm(forms.Form):
    """How long VMs may live from now."""

    lease_seconds = DurationField(label="From now", help_text="Such as 8h.")


class StopForm(forms.Form):
    """How VMs are stopped."""

    force = forms.BooleanField(required=False, label="Force them at once, as if the power went")


class DrainForm(forms.Form):
    """Why a host is emptied, and what becomes of its VMs."""

    reason = forms.CharField(
        max_length=300,
        widget=forms.TextInput(attrs={"placeholder": "Such as: it gets a new disk"}),
    )
    policy = forms.ChoiceField(
        choices=Drain.Policy.choices,
        initial=Drain.Policy.WAIT,
        label="VMs that are there",
        widget=forms.RadioSelect,
    )
    deadline = MomentField(
        label="At",
        help_text="In UTC: when they are stopped or deleted. Empty: at once.",
    )


class ResizeForm(forms.Form):
    """Another size for a VM."""

    cpus = forms.IntegerField(min_value=1, label="CPUs")
    memory_mib = forms.IntegerField(min_value=1, label="Memory (MiB)")
    disk_gib = forms.IntegerField(min_value=1, label="Disk (GiB)", help_text="It only grows.")


class ResizeManyForm(ResizeForm):
    """Another size for many VMs; what is left empty stays."""

    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        for field in self.fields.values():
            field.required = False


class RenameForm(forms.Form):
    """Another name for a VM."""

    name = forms.CharField(max_length=63)


class CloneForm(forms.Form):
    """A clone of a VM. What is left empty is as of a new VM."""

    name = forms.CharField(
        required=False, max_length=63, help_text="Empty: a name is made from the template's."
    )
    lease_seconds = DurationField(
        required=False, label="Lease", help_text="Such as 45m, 8h or 1d 12h. Empty: the template's."
    )


class UploadForm(forms.Form):
    """A file of the host for the guest."""

    path = forms.CharField(label="File on the host", max_length=1000)
    remote_path = forms.CharField(label="Path in the guest", max_length=1000)


class SnapshotForm(forms.Form):
    """A snapshot of a VM."""

    name = forms.CharField(required=False, max_length=100, help_text="Empty: a number.")
    description = forms.CharField(
        required=False, max_length=1000, widget=forms.Textarea(attrs={"rows": 2})
    )


class DeleteSnapshotForm(forms.Form):
    """What of a snapshot's tree goes."""

    children = forms.BooleanField(required=False, label="Those that were taken after it, too")


class ExecuteForm(forms.Form):
    """A command for the guest."""

    command = forms.CharField(
        strip=False,
        widget=forms.Textarea(attrs={"rows": 2, "placeholder": "uname -a", "spellcheck": "false"}),
    )
    timeout_seconds = DurationField(initial=300, label="Limit", help_text="Such as 30s or 5m.")
    user = forms.CharField(
        required=False,
        max_length=100,
        label="As",
        help_text="Empty: the account of the tools.",
    )
    sudo = forms.BooleanField(required=False, label="With sudo")


class WhyNotForm(forms.Form):
    """A host to ask about."""

    host = forms.ModelChoiceField(
        queryset=Host.objects.none(),
        empty_label="Choose a host",
        widget=forms.Select(attrs={"class": "form-select"}),
    )

    def __init__(self, *arguments: Any, actor: Actor, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self.fields["host"].queryset = _hosts(actor)  # type: ignore[attr-defined]


def _hosts(actor: Actor) -> QuerySet[Host]:
    """Return the names of hosts to choose from, without decrypting their credentials."""
    return Host.objects.visible_to(actor).only("pk", "name").order_by("name")
