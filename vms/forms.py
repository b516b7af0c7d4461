"""The forms of the template and VM pages. They turn text into values; rules are the domain's."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

import django_filters
from django import forms
from django.contrib.auth import get_user_model
from django.db.models import Q

from accounts.models import Role
from catalog.forms import RevokeForm
from catalog.models import Image
from hosts.forms import MomentField, SearchInput, TagsField
from hosts.models import Host
from vms.models import Drain, Grant, LeaseEnd, Template, VirtualMachine, WarmPool
from vms.models.pools import LARGEST as LARGEST_POOL
from vms.states import State

if TYPE_CHECKING:
    from django.db.models import QuerySet

    from accounts.actors import Actor

__all__ = ["RevokeForm"]

UNITS = {"d": 86_400, "h": 3600, "min": 60, "s": 1}
_BY_LETTER = {unit[0]: size for unit, size in UNITS.items()}
_PART = re.compile(r"\s*(\d+(?:\.\d+)?)\s*([dhms])[a-z]*\s*,?", re.IGNORECASE)


def as_duration(seconds: int) -> str:
    """Return seconds as people write them, whole: “1 d 12 h”."""
    parts = []
    for unit, size in UNITS.items():
        count, seconds = divmod(seconds, size)
        if count:
            parts.append(f"{count} {unit}")
    return " ".join(parts) or "0 s"


def parse_duration(text: str) -> int:
    """Return the seconds of “90m”, “8 h”, “1d 12h”, “2 days”; raises `ValueError`."""
    position, seconds = 0, 0.0
    while position < len(text):
        found = _PART.match(text, position)
        if not found:
            raise ValueError(text)
        seconds += float(found[1]) * _BY_LETTER[found[2].lower()]
        position = found.end()
    if not 0 < seconds < 2**31:
        raise ValueError(text)
    return round(seconds)


class DurationField(forms.CharField):
    """A duration in friendly units; the value is seconds, or None."""

    def __init__(self, **options: Any) -> None:
        options.setdefault("help_text", "Such as 45m, 8h or 1d 12h.")
        super().__init__(**options)

    def to_python(self, value: Any) -> int | None:  # type: ignore[override]
        text = str(super().to_python(value) or "").strip()
        if not text:
            return None
        try:
            return parse_duration(text)
        except ValueError:
            raise forms.ValidationError(
                "Give a number and a unit, such as 45m, 8h or 1d 12h."
            ) from None

    def prepare_value(self, value: Any) -> Any:
        return as_duration(value) if isinstance(value, int) else value


class AccountChoice(forms.ModelChoiceField):
    def label_from_instance(self, account: Any) -> str:
        return f"{account.username} (service)" if account.kind == "service" else account.username


class TemplateFilters(django_filters.FilterSet):
    """What the list of templates can be narrowed by."""

    q = django_filters.CharFilter(method="search", label="Search", widget=SearchInput)
    os = django_filters.ChoiceFilter(
        label="System", choices=Template.OS.choices, empty_label="Any system"
    )
    state = django_filters.ChoiceFilter(
        method="in_state",
        label="State",
        choices=[("live", "Live"), ("revoked", "Revoked")],
        empty_label="Live and revoked",
    )

    class Meta:
        model = Template
        fields: list[str] = []

    def search(self, templates: QuerySet[Template], name: str, text: str) -> QuerySet[Template]:
        return templates.filter(Q(name__icontains=text) | Q(description__icontains=text))

    def in_state(self, templates: QuerySet[Template], name: str, state: str) -> QuerySet[Template]:
        return templates.filter(revoked_at__isnull=state == "live")


class TemplateForm(forms.Form):
    """A template: what VMs are made from, their size, and their defaults."""

    name = forms.CharField(max_length=100)
    description = forms.CharField(required=False, widget=forms.Textarea(attrs={"rows": 2}))
    images = forms.ModelMultipleChoiceField(
        queryset=Image.objects.none(),
        required=False,
        widget=forms.CheckboxSelectMultiple,
        help_text="At most one for each architecture.",
    )
    clone_of = forms.CharField(
        required=False,
        max_length=200,
        label="Or clone this VM",
        help_text="The name of a VM as it is on its hosts, instead of images.",
    )
    os = forms.ChoiceField(choices=Template.OS.choices, label="System")
    cpus = forms.IntegerField(min_value=1, initial=4, label="CPUs")
    memory_mib = forms.IntegerField(min_value=1, initial=8192, label="Memory (MiB)")
    disk_gib = forms.IntegerField(min_value=1, initial=64, label="Disk (GiB)")
    host_tags = TagsField(
        label="Host tags",
        help_text="Only hosts with all of these tags take its VMs. Separate them with commas.",
    )
    default_lease_seconds = DurationField(initial=8 * 3600, label="Default lease")
    maximum_lease_seconds = DurationField(initial=3 * 86_400, label="Longest lease")
    lease_end = forms.ChoiceField(
        choices=[
            (LeaseEnd.DELETE, "Delete the VM"),
            (LeaseEnd.STOP, "Stop it and keep it"),
            (LeaseEnd.SUSPEND, "Suspend it and keep it"),
        ],
        label="When the lease ends",
    )
    start = forms.BooleanField(required=False, initial=True, label="Start VMs when created")

    def __init__(
        self, *arguments: Any, actor: Actor, editing: bool = False, **options: Any
    ) -> None:
        super().__init__(*arguments, **options)
        images = Image.objects.visible_to(actor).live().select_related("source")
        self.fields["images"].queryset = images  # type: ignore[attr-defined]
        if editing:  # what VMs are made from is fixed: a clone stays a clone
            del self.fields["clone_of"]


class GrantForm(forms.Form):
    """Who may use the template, how, and until when."""

    user = AccountChoice(queryset=get_user_model().objects.none(), required=False, empty_label="–")
    role = forms.ModelChoiceField(
        queryset=Role.objects.none(), required=False, empty_label="–", label="or role"
    )
    level = forms.ChoiceField(
        choices=[
            (Grant.Level.USE, "Use"),
            (Grant.Level.MANAGE, "Manage: use, change and grant"),
        ]
    )
    maximum_vms = forms.IntegerField(
        required=False, min_value=1, label="VMs at once", help_text="Empty: no limit."
    )
    maximum_lease_seconds = DurationField(
        required=False, label="Longest lease", help_text="Such as 8h. Empty: the template's."
    )
    expires_at = MomentField(label="Expires")

    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        _offer_subjects(self)


def _offer_subjects(form: forms.Form) -> None:
    """Let a form choose among all accounts and roles."""
    accounts = get_user_model().objects.filter(is_active=True).order_by("username")
    roles = Role.objects.select_related("group").order_by("group__name")
    form.fields["user"].queryset = accounts  # type: ignore[attr-defined]
    form.fields["role"].queryset = roles  # type: ignore[attr-defined]


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


def usable_templates(actor: Actor) -> QuerySet[Template]:
    """Return the templates that a live grant lets the actor use, by name."""
    granted = Grant.objects.live().for_user(actor.user_id).values("template")
    return Template.objects.live().filter(pk__in=granted).order_by("name")


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


class WarmPoolForm(forms.Form):
    """How many VMs of a template are kept ready, and when none is made."""

    size = forms.IntegerField(min_value=0, max_value=LARGEST_POOL, label="VMs")
    kept = forms.ChoiceField(choices=WarmPool.Kept.choices)
    quiet_from = forms.TimeField(
        required=False, label="None is made from", widget=forms.TimeInput(attrs={"type": "time"})
    )
    quiet_until = forms.TimeField(
        required=False,
        label="until",
        widget=forms.TimeInput(attrs={"type": "time"}),
        help_text="Times of day in UTC. Empty: no quiet hours.",
    )


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
        _offer_subjects(self)


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
