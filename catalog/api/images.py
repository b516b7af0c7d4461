"""`/api/v2/images/`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar

import django_filters
from rest_framework import serializers
from rest_framework.response import Response

from accounts.api.serializers import HitOutput, KillInput
from accounts.revocation import CHOICES, COPY_CHOICES
from catalog import images, metadata
from catalog.copies import copies_of
from catalog.models import CatalogSource, Image, ImageLabel
from catalog.readiness import Ready, hosts_of, matrix
from hosts.models import Architecture
from jobs.api import VerbView
from orchestrator.api.references import resolve
from orchestrator.api.routing import route
from orchestrator.api.serializers import (
    Flag,
    Input,
    OneOf,
    Output,
    ReferenceOutput,
    Text,
    Texts,
    Whole,
)
from orchestrator.api.views import ApiView, Lists, Patches, Posts, Shows

if TYPE_CHECKING:
    from django.db.models import QuerySet
    from rest_framework.request import Request

    from accounts.revocation import Hit
    from jobs.models import Job


class ImageOutput(Output):
    """A catalog id, version and architecture."""

    id = serializers.UUIDField()
    name = serializers.CharField()
    source = ReferenceOutput()  # type: ignore[assignment]
    catalog_id = serializers.CharField()
    version = serializers.CharField()
    architecture = serializers.ChoiceField(Architecture.choices)
    type = serializers.ChoiceField(Image.Type.choices)
    description = serializers.CharField()
    tags = serializers.ListField(child=serializers.CharField())
    required_roles = serializers.ListField(child=serializers.CharField())
    required_claims = serializers.ListField(child=serializers.CharField())
    minimum_cpus = serializers.IntegerField()
    minimum_memory_mib = serializers.IntegerField()
    minimum_disk_gib = serializers.IntegerField()
    pack_size_mib = serializers.IntegerField(allow_null=True)
    pack_bytes = serializers.IntegerField(allow_null=True)
    pack_file = serializers.CharField()
    metadata_file = serializers.CharField()
    md5 = serializers.CharField(help_text="The contract's checksum.")
    sha256 = serializers.CharField()
    provenance = serializers.DictField(help_text="Who made it, where and of what.")
    verified_at = serializers.DateTimeField(allow_null=True)
    verify_problem = serializers.CharField()
    downloads = serializers.IntegerField(help_text="By hosts, with a ticket.")
    last_downloaded_at = serializers.DateTimeField(allow_null=True)
    last_downloaded_by = serializers.CharField()
    tainted_at = serializers.DateTimeField(allow_null=True)
    taint_reason = serializers.CharField()
    tainted_by = serializers.CharField()
    revoked_at = serializers.DateTimeField(allow_null=True)
    revoke_reason = serializers.CharField()
    revoked_by = serializers.CharField()
    created_at = serializers.DateTimeField()


class ImageInput(Input):
    source = Text(  # type: ignore[assignment]
        max_length=100, help_text="Id or name."
    )
    catalog_id = Text(max_length=200)
    version = Text(max_length=100)
    architecture = OneOf(Architecture.choices)
    type = OneOf(Image.Type.choices)
    pack_size_mib = Whole(required=False, allow_null=True)
    description = Text(max_length=2000, required=False, allow_blank=True)
    tags = Texts(required=False)
    required_roles = Texts(required=False, help_text="Who has any of them sees the image.")
    required_claims = Texts(required=False)


class ImageChanges(Input):
    description = Text(max_length=2000, allow_blank=True)
    tags = Texts(help_text="`latest` is taken from the other versions.")
    required_roles = Texts()
    required_claims = Texts()
    minimum_cpus = Whole()
    minimum_memory_mib = Whole()
    minimum_disk_gib = Whole()


class AllInput(Input):
    all_architectures = Flag(required=False, help_text="Not only this one of its version.")


class TaintInput(AllInput):
    reason = Text(max_length=300, required=False, allow_blank=True)


class UnrevokeInput(AllInput):
    reason = Text(max_length=300)


class ImageRevokeInput(KillInput, AllInput):
    reason = Text(max_length=300, required=False, allow_blank=True)


class ImageRemoveInput(Input):
    objects = Flag(required=False, help_text="Also delete pack and metadata from storage.")
    cached_copies = OneOf(COPY_CHOICES, required=False)


class ImageFilter(django_filters.FilterSet):
    catalog_id = django_filters.CharFilter(lookup_expr="iexact")
    version = django_filters.CharFilter()
    tag = django_filters.CharFilter(method="tagged")
    source = django_filters.UUIDFilter(field_name="source_id")
    architecture = django_filters.ChoiceFilter(choices=Architecture.choices)

    class Meta:
        model = Image
        fields = ["catalog_id", "version", "architecture"]

    def tagged(self, images: QuerySet[Image], name: str, value: str) -> QuerySet[Image]:
        return images.filter(labels__kind=ImageLabel.Kind.TAG, labels__name=value)


class ImageView(ApiView):
    tag = "images"
    model = Image
    output: Any = ImageOutput

    def rows(self) -> QuerySet[Image]:
        return (
            Image.objects.visible_to(self.actor)
            .select_related("source")
            .defer("source__connection")
            .prefetch_related("labels")
        )


class ImageList(ImageView, Lists, Posts):
    input = ImageInput
    filterset_class = ImageFilter
    permission = "images.manage"
    docs = {"GET": "List the images.", "POST": "Add an image of a source."}

    def perform(self, data: dict[str, Any]) -> Image:
        self.actor.require(self.permission)  # before sources are told from absent ones
        sources = CatalogSource.objects.visible_to(self.actor)
        data["source"] = resolve(sources, data["source"], field="source")
        return images.add_image(self.actor, **data)


class ImageItem(ImageView, Shows, Patches):
    changes: ClassVar[type[Input]] = ImageChanges
    docs = {
        "GET": "Show an image: its manifest, and what became of it.",
        "PATCH": "Describe and tag an image, and say who it is open to.",
    }

    def change(self, thing: Image, data: dict[str, Any]) -> None:
        images.change(self.actor, thing, **data)


class ImageVerb(ImageView, VerbView):
    """A verb on an image."""

    permission = "images.manage"
    output = VerbView.output


class CopyOutput(Output):
    """A copy of an image in the cache of a host."""

    host = ReferenceOutput()
    catalog_id = serializers.CharField()
    version = serializers.CharField()
    size_mib = serializers.IntegerField()


class DerivedOutput(Output):
    """All that was made from something, and what may become of it when it is revoked."""

    hits = HitOutput(many=True)
    copies = CopyOutput(many=True, help_text="In caches; shown to those who may see hosts.")
    choices = serializers.ListField(child=serializers.ChoiceField(CHOICES))
    copy_choices = serializers.ListField(child=serializers.ChoiceField(COPY_CHOICES))


def derived(actor: Any, hits: list[Hit], found: list[Image]) -> dict[str, Any]:
    """Return what a `DerivedOutput` shows of images that go, and of the VMs that are hit."""
    seen = copies_of(found) if actor.can("hosts.view") else []
    may_delete = actor.can("hosts.manage")
    return {
        "hits": hits,
        "copies": seen,
        "choices": CHOICES,
        "copy_choices": COPY_CHOICES if may_delete else COPY_CHOICES[:1],
    }


class ImageImpact(ImageView):
    output = DerivedOutput
    docs = {
        "GET": "List all that was made from an image: VMs that wait, VMs that exist, and copies in "
        "the caches of hosts."
    }

    def get(self, request: Request, **kwargs: Any) -> Response:
        image = self.target()
        self.actor.require("images.manage")
        hits = images.preview(image, "revoke")
        return Response(self.represent(derived(self.actor, hits, [image])))


class ImageRevoke(ImageVerb):
    input = ImageRevokeInput
    docs = {
        "POST": "Revoke an image: no VM is made from it any more, and its running VMs are kept, "
        "stopped or deleted as chosen, and so are its copies in the caches of hosts."
    }

    def act(self, target: Image, data: dict[str, Any]) -> Job:
        return images.revoke(self.actor, target, **data)


class ImageTaint(ImageVerb):
    input = TaintInput
    docs = {"POST": "Taint an image: no new VM is made from it until it is untainted."}

    def act(self, target: Image, data: dict[str, Any]) -> Job:
        return images.set_taint(self.actor, target, True, **data)


class ImageUntaint(ImageVerb):
    input = AllInput
    docs = {"POST": "Take the taint of an image away."}

    def act(self, target: Image, data: dict[str, Any]) -> Job:
        return images.set_taint(self.actor, target, False, **data)


class ImageUnrevoke(ImageVerb):
    input = UnrevokeInput
    docs = {
        "POST": "Let VMs be made from a revoked image again. For administrators, with a reason."
    }

    def act(self, target: Image, data: dict[str, Any]) -> Job:
        return images.unrevoke(self.actor, target, **data)


class ImageVerify(ImageVerb):
    docs = {"POST": "Read the whole pack and compare size and checksums with the manifest."}

    def act(self, target: Image, data: dict[str, Any]) -> Job:
        return metadata.verify(self.actor, target)


class ImageRemove(ImageVerb):
    input = ImageRemoveInput
    docs = {
        "POST": "Delete an image from the catalog; with `objects` also from storage. Refused while "
        "a template is made from it."
    }

    def act(self, target: Image, data: dict[str, Any]) -> Job:
        return images.remove(self.actor, target, **data)


class CellOutput(Output):
    """How an image stands with a host."""

    host = ReferenceOutput()
    ready = serializers.ChoiceField([(one.value, one.value) for one in Ready])
    progress = serializers.IntegerField(help_text="In percent, while it is pulled.")


class ReadinessOutput(Output):
    """An image, and how it stands with the hosts that one may see."""

    image = ReferenceOutput()
    hosts = CellOutput(many=True)


class ImageReadiness(ImageView, Lists):
    output = ReadinessOutput
    filterset_class = ImageFilter
    docs = {"GET": "Say which host has which image cached, and which would have to download it."}

    def represent(self, thing: Any, **options: Any) -> Any:
        self.actor.require("hosts.view")
        rows = matrix(thing, hosts_of(self.actor))
        return super().represent(
            [
                {
                    "image": row.image,
                    "hosts": row.cells,
                }
                for row in rows
            ],
            **options,
        )


urlpatterns = [
    route("images/", ImageList, "images"),
    route("images/readiness/", ImageReadiness, "image-readiness"),
    route("images/<uuid:id>/", ImageItem, "image"),
    route("images/<uuid:id>/impact/", ImageImpact, "image-impact"),
    route("images/<uuid:id>/remove/", ImageRemove, "image-remove"),
    route("images/<uuid:id>/revoke/", ImageRevoke, "image-revoke"),
    route("images/<uuid:id>/taint/", ImageTaint, "image-taint"),
    route("images/<uuid:id>/unrevoke/", ImageUnrevoke, "image-unrevoke"),
    route("images/<uuid:id>/untaint/", ImageUntaint, "image-untaint"),
    route("images/<uuid:id>/verify/", ImageVerify, "image-verify"),
]
