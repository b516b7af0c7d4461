"""The forms of the image pages."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import django_filters
from django import forms
from django.db.models import Q

from catalog.models import CatalogSource, Image
from hosts.forms import SearchInput, SecretInput
from hosts.models import Architecture

if TYPE_CHECKING:
    from django.db.models import QuerySet

    from accounts.actors import Actor
    from hosts.models import Host

RUNNING_VMS = [
    ("keep", "Keep them running"),
    ("stop", "Stop them"),
    ("delete", "Delete them"),
]


class RunningVMsField(forms.ChoiceField):
    """What a revocation does with VMs that exist. What waits for a host is always cancelled."""

    def __init__(self) -> None:
        super().__init__(
            label="VMs that exist",
            choices=RUNNING_VMS,
            initial="keep",
            widget=forms.RadioSelect,
            help_text="VMs that wait for a host are cancelled in any case.",
        )


class RevokeForm(forms.Form):
    """The choice that comes with every revocation."""

    running_vms = RunningVMsField()


class KillForm(RevokeForm):
    """The choices that come with revoking what VMs are made from.

    That for cached copies is there for those who may delete them, where there are any.
    """

    cached_copies = forms.ChoiceField(
        label="Copies in the caches of hosts",
        choices=[("keep", "Keep them"), ("delete", "Delete them")],
        initial="keep",
        widget=forms.RadioSelect,
        help_text="A copy that a VM is still being made of stays, until the batch is retried.",
    )

    def __init__(self, *arguments: Any, copies: bool, **options: Any) -> None:
        super().__init__(*arguments, **options)
        if not copies:
            del self.fields["cached_copies"]


class ImageFilters(django_filters.FilterSet):
    """What the list of images can be narrowed by."""

    q = django_filters.CharFilter(method="search", label="Search", widget=SearchInput)
    architecture = django_filters.ChoiceFilter(
        choices=Architecture.choices, empty_label="Any architecture"
    )
    source = django_filters.ModelChoiceFilter(
        queryset=CatalogSource.objects.all(), empty_label="Any source"
    )

    class Meta:
        model = Image
        fields: list[str] = []

    def search(self, images: QuerySet[Image], name: str, text: str) -> QuerySet[Image]:
        return images.filter(Q(catalog_id__icontains=text) | Q(version__icontains=text))


class SourceForm(forms.Form):
    """A catalog source. Its connection can be written, never read."""

    name = forms.CharField(max_length=100)
    connection = forms.CharField(
        strip=True,
        widget=SecretInput,
        help_text="Such as host=root:secret@https://catalog.example.com. It is kept encrypted "
        "and never shown again.",
    )


class ImageForm(forms.Form):
    """An image of a source."""

    source = forms.ModelChoiceField(queryset=CatalogSource.objects.none(), empty_label=None)
    catalog_id = forms.CharField(
        max_length=200,
        label="Catalog id",
        widget=forms.TextInput(attrs={"placeholder": "MACOS-BUILD"}),
    )
    version = forms.CharField(max_length=100, initial="latest")
    architecture = forms.ChoiceField(choices=Architecture.choices)
    type = forms.ChoiceField(
        choices=[
            ("pvm", "pvm: Linux, Windows, macOS on Intel"),
            ("macvm", "macvm: macOS on Apple"),
        ],
    )
    pack_size_mib = forms.IntegerField(
        required=False,
        min_value=1,
        label="Size of the download (MiB)",
        help_text="Lets placement keep room for it on a host that has not cached it.",
    )

    def __init__(self, *arguments: object, actor: Actor, **options: object) -> None:
        super().__init__(*arguments, **options)  # type: ignore[arg-type]
        self.fields["source"].queryset = CatalogSource.objects.visible_to(actor)  # type: ignore[attr-defined]


class TaintForm(forms.Form):
    """Why an image must not be used for now."""

    reason = forms.CharField(max_length=300)


class RevokeImageForm(KillForm):
    """Why an image must never be used again, and what happens to its VMs."""

    reason = forms.CharField(max_length=300)

    field_order = ["reason", "running_vms"]


class PullForm(forms.Form):
    """An image for a host's cache: one of its architecture."""

    image = forms.ModelChoiceField(
        queryset=Image.objects.none(),
        empty_label="Choose an image",
        widget=forms.Select(attrs={"class": "form-select"}),
    )

    def __init__(self, *arguments: Any, actor: Actor, host: Host, **options: Any) -> None:
        super().__init__(*arguments, **options)
        rows = Image.objects.visible_to(actor).usable()
        rows = rows.filter(architecture=host.status.architecture)
        self.fields["image"].queryset = rows.order_by("catalog_id", "version")  # type: ignore[attr-defined]


class CachesForm(forms.Form):
    """Which image goes into the caches of many hosts, or from them."""

    catalog_id = forms.CharField(max_length=200, label="Catalog id")
    version = forms.CharField(
        required=False,
        max_length=100,
        help_text="Empty: pulled is the one that was added last, deleted is every one.",
    )


class CacheForm(forms.Form):
    """What of a host's cache is deleted; nothing named: everything."""

    catalog_id = forms.CharField(required=False, max_length=200, widget=forms.HiddenInput)
    version = forms.CharField(required=False, max_length=100, widget=forms.HiddenInput)
