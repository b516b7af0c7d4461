"""The forms of templates, their grants and warm pools."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import django_filters
from django import forms
from django.contrib.auth import get_user_model
from django.db.models import Q

from accounts.models import Role
from catalog.models import Image
from hosts.forms import MomentField, SearchInput, TagsField
from vms.forms.durations import DurationField
from vms.models import Grant, LeaseEnd, Template, WarmPool
from vms.models.pools import LARGEST as LARGEST_POOL

if TYPE_CHECKING:
    from django.db.models import QuerySet

    from accounts.actors import Actor


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
        offer_subjects(self)


def offer_subjects(form: forms.Form) -> None:
    """Let a form choose among all accounts and roles."""
    accounts = get_user_model().objects.filter(is_active=True).order_by("username")
    roles = Role.objects.select_related("group").order_by("group__name")
    form.fields["user"].queryset = accounts  # type: ignore[attr-defined]
    form.fields["role"].queryset = roles  # type: ignore[attr-defined]


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


def usable_templates(actor: Actor) -> QuerySet[Template]:
    """Return the templates that a live grant lets the actor use, by name."""
    granted = Grant.objects.live().for_user(actor.user_id).values("template")
    return Template.objects.live().filter(pk__in=granted).order_by("name")
