"""`/api/v2/sources/` and `/api/v2/images/`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import django_filters
from rest_framework import serializers
from rest_framework.response import Response

from accounts.api.serializers import HitOutput, KillInput, UserReference
from accounts.revocation import CHOICES, COPY_CHOICES
from catalog import caching, images, sources
from catalog.copies import copies_of
from catalog.models import CatalogSource, HostImage, Image
from hosts.api import HostVerb
from hosts.models import Architecture, Host
from jobs.api import VerbView
from orchestrator.api.pagination import InOrder
from orchestrator.api.references import resolve
from orchestrator.api.routing import route
from orchestrator.api.serializers import (
    Flag,
    Input,
    OneOf,
    Output,
    ReferenceOutput,
    Secret,
    Text,
    Whole,
)
from orchestrator.api.views import ApiView, Lists, Posts, Shows

if TYPE_CHECKING:
    from django.db.models import QuerySet
    from rest_framework.request import Request

    from accounts.revocation import Hit
    from jobs.models import Job


class SourceOutput(Output):
    """A catalog that images come from."""

    id = serializers.UUIDField()
    name = serializers.CharField()
    connection = serializers.CharField(source="masked", help_text="Without its secrets.")
    added_by = UserReference(allow_null=True)
    created_at = serializers.DateTimeField()


class SourceInput(Input):
    name = Text(max_length=100)
    connection = Secret(max_length=2000, help_text="The connection string; never shown again.")


class ImageOutput(Output):
    """A catalog id, version and architecture."""

    id = serializers.UUIDField()
    name = serializers.CharField()
    source = ReferenceOutput()  # type: ignore[assignment]
    catalog_id = serializers.CharField()
    version = serializers.CharField()
    architecture = serializers.ChoiceField(Architecture.choices)
    type = serializers.ChoiceField(Image.Type.choices)
    pack_size_mib = serializers.IntegerField(allow_null=True)
    tainted_at = serializers.DateTimeField(allow_null=True)
    taint_reason = serializers.CharField()
    revoked_at = serializers.DateTimeField(allow_null=True)
    revoke_reason = serializers.CharField()
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


class ReasonInput(Input):
    reason = Text(max_length=300, required=False, allow_blank=True)


class ImageRevokeInput(KillInput):
    reason = Text(max_length=300, required=False, allow_blank=True)


class ImageFilter(django_filters.FilterSet):
    catalog_id = django_filters.CharFilter(lookup_expr="iexact")
    version = django_filters.CharFilter()
    architecture = django_filters.ChoiceFilter(choices=Architecture.choices)

    class Meta:
        model = Image
        fields = ["catalog_id", "version", "architecture"]


class SourceView(ApiView):
    tag = "sources"
    model = CatalogSource
    output = SourceOutput

    def rows(self) -> QuerySet[CatalogSource]:
        return CatalogSource.objects.visible_to(self.actor).select_related("added_by")


class SourceList(SourceView, Lists, Posts):
    input = SourceInput
    permission = "images.manage"
    docs = {"GET": "List the catalog sources.", "POST": "Add a catalog source."}

    def perform(self, data: dict[str, Any]) -> CatalogSource:
        return sources.add_source(self.actor, **data)


class SourceItem(SourceView, Shows):
    docs = {"GET": "Show a catalog source; its connection is masked."}


class ImageView(ApiView):
    tag = "images"
    model = Image
    output: Any = ImageOutput

    def rows(self) -> QuerySet[Image]:
        return (
            Image.objects.visible_to(self.actor)
            .select_related("source")
            .defer("source__connection")
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


class ImageItem(ImageView, Shows):
    docs = {"GET": "Show an image."}


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
    input = ReasonInput
    docs = {"POST": "Taint an image: no new VM is made from it until it is untainted."}

    def act(self, target: Image, data: dict[str, Any]) -> Job:
        return images.set_taint(self.actor, target, True, **data)


class ImageUntaint(ImageVerb):
    docs = {"POST": "Take the taint of an image away."}

    def act(self, target: Image, data: dict[str, Any]) -> Job:
        return images.set_taint(self.actor, target, False)


class HostImageOutput(Output):
    """An image that a host has cached, as it said last."""

    catalog_id = serializers.CharField(help_text="Upper case, as hosts keep it.")
    version = serializers.CharField()
    architecture = serializers.CharField(help_text="Empty where the host does not say.")
    size_mib = serializers.IntegerField()
    seen_at = serializers.DateTimeField()


class PullInput(Input):
    image = Text(max_length=200, help_text="Its id.")


class PullManyInput(Input):
    catalog_id = Text(max_length=200, help_text="Each host takes it in its own architecture.")
    version = Text(max_length=100, required=False, help_text="Default: what was added last.")


class CacheDeleteInput(Input):
    catalog_id = Text(max_length=200, required=False)
    version = Text(max_length=100, required=False, help_text="Default: every version.")
    everything = Flag(required=False, help_text="Instead of one image.")


class HostCache(Lists):
    tag = "hosts"
    model = HostImage
    output = HostImageOutput
    pagination_class = InOrder
    docs = {"GET": "List what the host has cached, as it said last."}

    def rows(self) -> QuerySet[HostImage]:
        host = self.find(self.kwargs["id"], Host.objects.visible_to(self.actor))
        self.actor.require("images.view")
        return HostImage.objects.filter(host=host)


class HostCachePull(HostVerb):
    input = PullInput
    docs = {"POST": "Have a host download an image into its cache."}

    def act(self, target: Host, data: dict[str, Any]) -> Job:
        self.actor.require(self.permission)  # before images are told from absent ones
        rows = Image.objects.visible_to(self.actor)
        image = resolve(rows, data["image"], field="image", name="catalog_id")
        return caching.pull(self.actor, target, image)


class HostCacheDelete(HostVerb):
    input = CacheDeleteInput
    docs = {
        "POST": "Delete an image, or everything, from the cache of a host. Refused while a VM that "
        "waits or is being made relies on it."
    }

    def act(self, target: Host, data: dict[str, Any]) -> Job:
        return caching.delete(self.actor, target, **data)


urlpatterns = [
    route("sources/", SourceList, "sources"),
    route("sources/<uuid:id>/", SourceItem, "source"),
    route("images/", ImageList, "images"),
    route("images/<uuid:id>/", ImageItem, "image"),
    route("images/<uuid:id>/impact/", ImageImpact, "image-impact"),
    route("images/<uuid:id>/revoke/", ImageRevoke, "image-revoke"),
    route("images/<uuid:id>/taint/", ImageTaint, "image-taint"),
    route("images/<uuid:id>/untaint/", ImageUntaint, "image-untaint"),
    route("hosts/<uuid:id>/cache/", HostCache, "host-cache"),
    route("hosts/<uuid:id>/cache/pull/", HostCachePull, "host-cache-pull"),
    route("hosts/<uuid:id>/cache/delete/", HostCacheDelete, "host-cache-delete"),
]
