"""The forms of the image pages."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import django_filters
from django import forms
from django.db.models import Q

from catalog.caching import FASTEST_MIB
from catalog.models import CatalogSource, Image
from catalog.pushing import STILL
from hosts.forms import SearchInput, SecretInput
from hosts.models import Architecture, Host

if TYPE_CHECKING:
    from django.db.models import QuerySet

    from accounts.actors import Actor

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


def copies_field() -> forms.ChoiceField:
    """Return the choice of what becomes of copies in the caches of hosts."""
    return forms.ChoiceField(
        label="Copies in the caches of hosts",
        choices=[("keep", "Keep them"), ("delete", "Delete them")],
        initial="keep",
        widget=forms.RadioSelect,
        help_text="A copy that a VM is still being made of stays, until the batch is retried.",
    )


class KillForm(RevokeForm):
    """The choices that come with revoking what VMs are made from.

    That for cached copies is there for those who may delete them, where there are any.
    """

    cached_copies = copies_field()

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
        max_length=4000,
        widget=SecretInput,
        help_text="Another catalog: host=root:secret@https://catalog.example.com. A storage: "
        "provider=minio;endpoint=…;bucket=…;access_key=…;secret_key=…. It is kept encrypted and "
        "never shown again.",
    )
    hands_out_keys = forms.BooleanField(
        required=False,
        label="Hand its keys out to hosts",
        help_text="For hosts that know nothing of signed addresses. Without it no key of a storage "
        "that can sign leaves the catalog.",
    )


class ChangeSourceForm(SourceForm):
    """What of a source can be changed; an empty connection stays as it is."""

    active = forms.BooleanField(
        required=False,
        label="Switched on",
        help_text="Off: nothing is read from it, and no VM made of its images.",
    )

    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self.fields["connection"].required = False
        self.fields["connection"].help_text = "Empty: it stays as it is."


class WordsField(forms.CharField):
    """Words with commas between them, as a list."""

    def __init__(self, **options: Any) -> None:
        super().__init__(required=False, max_length=2000, **options)

    def to_python(self, value: Any) -> Any:
        return [word.strip() for word in (value or "").split(",") if word.strip()]

    def prepare_value(self, value: Any) -> Any:
        return ", ".join(value) if isinstance(value, list) else value

    def run_validators(self, value: Any) -> None:
        """What a word may be is the catalog's to say."""


class ManifestForm(forms.Form):
    """What people say of an image."""

    description = forms.CharField(
        required=False, max_length=2000, widget=forms.Textarea(attrs={"rows": 3})
    )
    tags = WordsField(help_text="With commas. “latest” is taken from the other versions.")
    required_roles = WordsField(help_text="Who has any of them sees the image. Empty: everybody.")
    required_claims = WordsField(help_text="Likewise, for claims of the Parallels API.")
    minimum_cpus = forms.IntegerField(min_value=0, initial=0, label="CPUs it needs at least")
    minimum_memory_mib = forms.IntegerField(min_value=0, initial=0, label="Memory (MiB)")
    minimum_disk_gib = forms.IntegerField(min_value=0, initial=0, label="Disk (GiB)")


class ChangeImageForm(ManifestForm):
    """What of an image can be changed."""

    @staticmethod
    def of(image: Image) -> dict[str, Any]:
        return {name: getattr(image, name) for name in ChangeImageForm.base_fields}


class PushFromForm(forms.Form):
    """The host whose VM is pushed."""

    host = forms.ModelChoiceField(
        queryset=Host.objects.none(),
        empty_label="Choose a host",
        widget=forms.Select(attrs={"class": "form-select"}),
    )

    def __init__(self, *arguments: Any, actor: Actor, **options: Any) -> None:
        super().__init__(*arguments, **options)
        rows = Host.objects.visible_to(actor).defer("password", "api_key").order_by("name")
        self.fields["host"].queryset = rows  # type: ignore[attr-defined]
        self.storages = storages_of(actor)

    def clean_host(self) -> Host:
        host: Host = self.cleaned_data["host"]
        if not host.listed_vms.filter(state__in=STILL).exists():
            raise forms.ValidationError(
                f"{host.name} lists no VM that is stopped. Stop the one to push, and wait until "
                "its host lists it so."
            )
        return host

    def clean(self) -> None:
        if not self.storages.exists():
            raise forms.ValidationError(
                "There is no storage to push to, or none is switched on. Add a source first whose "
                "connection begins with provider=."
            )


def storages_of(actor: Actor) -> QuerySet[CatalogSource]:
    """Return where a VM may be pushed to."""
    rows = CatalogSource.objects.visible_to(actor)
    return rows.filter(kind=CatalogSource.Kind.STORAGE, active=True).order_by("name")


class PushForm(ManifestForm):
    """A VM of a host that becomes an image of a storage."""

    source = forms.ModelChoiceField(
        queryset=CatalogSource.objects.none(),
        empty_label=None,
        label="Storage",
        help_text="Those that are switched on.",
    )
    vm = forms.ChoiceField(label="VM", help_text="Those that are stopped.")
    catalog_id = forms.CharField(max_length=200, label="Catalog id")
    version = forms.CharField(max_length=100)
    compress = forms.BooleanField(required=False, initial=True, label="Compress the pack")
    override = forms.BooleanField(required=False, label="Replace an image of this name")

    field_order = ["source", "vm", "catalog_id", "version"]

    def __init__(self, *arguments: Any, actor: Actor, host: Host, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self.fields["source"].queryset = storages_of(actor)  # type: ignore[attr-defined]
        still = host.listed_vms.filter(state__in=STILL).order_by("name")
        names = still.values_list("host_vm_id", "name")
        self.fields["vm"].choices = list(names)  # type: ignore[attr-defined]


class QuotaForm(forms.Form):
    """How much a host may cache."""

    quota_mib = forms.IntegerField(
        required=False,
        min_value=0,
        label="Quota (MiB)",
        help_text="Empty: as much as the host likes.",
    )


class InAdvanceForm(forms.Form):
    """Which hosts download an image, how many at a time, and when."""

    hosts = forms.ModelMultipleChoiceField(
        queryset=Host.objects.none(),
        required=False,
        widget=forms.CheckboxSelectMultiple,
        help_text="None chosen: every host of its architecture.",
    )
    at_once = forms.IntegerField(
        min_value=1,
        max_value=200,
        initial=4,
        label="At a time",
        help_text="How many hosts download at the same time.",
    )
    mib_per_second = forms.IntegerField(
        required=False,
        min_value=1,
        max_value=FASTEST_MIB,
        label="Bandwidth (MiB/s)",
        help_text="Of all these downloads together; the packs go through this product then. Empty: "
        "no limit.",
    )
    not_before = forms.DateTimeField(
        required=False, label="Not before", widget=forms.DateTimeInput({"type": "datetime-local"})
    )
    not_after = forms.DateTimeField(
        required=False,
        label="Not after",
        widget=forms.DateTimeInput({"type": "datetime-local"}),
        help_text="What has not begun by then is not begun. Times are UTC.",
    )

    def __init__(self, *arguments: Any, actor: Actor, image: Image, **options: Any) -> None:
        super().__init__(*arguments, **options)
        rows = Host.objects.visible_to(actor).filter(status__architecture=image.architecture)
        rows = rows.defer("password", "api_key").order_by("name")
        self.fields["hosts"].queryset = rows  # type: ignore[attr-defined]


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


class AllArchitecturesForm(forms.Form):
    """Whether a verb means every architecture of a version."""

    all_architectures = forms.BooleanField(
        required=False, label="Every architecture of this version"
    )


class TaintForm(AllArchitecturesForm):
    """Why an image must not be used for now."""

    reason = forms.CharField(max_length=300)

    field_order = ["reason"]


class UnrevokeForm(TaintForm):
    """Why a revoked image may be used again."""


class RemoveImageForm(forms.Form):
    """What goes with an image that is deleted from the catalog."""

    objects = forms.BooleanField(
        required=False, label="Delete pack and metadata from storage", initial=False
    )
    cached_copies = copies_field()

    def __init__(self, *arguments: Any, stored: bool, copies: bool, **options: Any) -> None:
        super().__init__(*arguments, **options)
        if not stored:
            del self.fields["objects"]
        if not copies:
            del self.fields["cached_copies"]


class RevokeImageForm(KillForm, AllArchitecturesForm):
    """Why an image must never be used again, and what happens to its VMs."""

    reason = forms.CharField(max_length=300)

    field_order = ["reason", "all_architectures", "running_vms"]


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
