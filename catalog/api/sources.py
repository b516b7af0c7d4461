"""`/api/v2/sources/`: storages, and other catalogs."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar

from rest_framework import serializers
from rest_framework.response import Response

from accounts.api.serializers import UserReference
from catalog import pushing, remotes, sources
from catalog.manifests import Manifest
from catalog.models import CatalogSource
from catalog.sources import counted
from hosts.models import Architecture, Host
from jobs.api import VerbView
from orchestrator.api.references import resolve
from orchestrator.api.routing import route
from orchestrator.api.serializers import Flag, Input, OneOf, Output, Secret, Text, Texts, Whole
from orchestrator.api.views import ApiView, Lists, Patches, Posts, Shows

if TYPE_CHECKING:
    from django.db.models import QuerySet
    from rest_framework.request import Request

    from jobs.models import Job


class SourceOutput(Output):
    """A catalog that images come from."""

    id = serializers.UUIDField()
    name = serializers.CharField()
    kind = serializers.ChoiceField(
        CatalogSource.Kind.choices, help_text="`remote` is another catalog (a catalog manager)."
    )
    connection = serializers.CharField(source="masked", help_text="Without its secrets.")
    hands_out_keys = serializers.BooleanField(
        help_text="Hosts get the keys of a storage, not only signed addresses."
    )
    active = serializers.BooleanField()
    image_count = serializers.IntegerField(read_only=True)
    stored_bytes = serializers.IntegerField(
        allow_null=True, help_text="Of all packs whose size is known."
    )
    imported_at = serializers.DateTimeField(allow_null=True)
    added_by = UserReference(allow_null=True)
    created_at = serializers.DateTimeField()


class SourceInput(Input):
    name = Text(max_length=100)
    connection = Secret(
        max_length=4000,
        help_text="`host=user:password@https://…` or `provider=…;key=value;…`; never shown again.",
    )
    hands_out_keys = Flag(required=False)
    active = Flag(required=False)


class ImportInput(Input):
    catalog_id = Text(max_length=200, required=False, help_text="Default: everything there is.")
    version = Text(max_length=100, required=False)
    architecture = OneOf(Architecture.choices, required=False)


class PushInput(Input):
    host = Text(max_length=100, help_text="Id or name.")
    vm = Text(max_length=300, help_text="Its name or id on the host. It must be stopped.")
    catalog_id = Text(max_length=200)
    version = Text(max_length=100)
    description = Text(max_length=2000, required=False, allow_blank=True)
    tags = Texts(required=False, help_text="`latest` comes by itself.")
    required_roles = Texts(required=False)
    required_claims = Texts(required=False)
    minimum_cpus = Whole(required=False)
    minimum_memory_mib = Whole(required=False)
    minimum_disk_gib = Whole(required=False)
    compress = Flag(required=False, help_text="Default: true.")
    override = Flag(required=False, help_text="Replace an image of this name.")


class OfferedOutput(Output):
    """What another catalog offers."""

    name = serializers.CharField()
    catalog_id = serializers.CharField()
    version = serializers.CharField()
    architecture = serializers.CharField()
    type = serializers.CharField()
    description = serializers.CharField()
    tags = serializers.ListField(child=serializers.CharField())
    pack_bytes = serializers.IntegerField(allow_null=True)
    revoked = serializers.SerializerMethodField()
    tainted = serializers.SerializerMethodField()

    def get_revoked(self, one: Manifest) -> bool:
        return one.revoked is not None

    def get_tainted(self, one: Manifest) -> bool:
        return one.tainted is not None


class OffersOutput(Output):
    """All that another catalog offers."""

    results = OfferedOutput(many=True)


class SourceView(ApiView):
    tag = "sources"
    model = CatalogSource
    output: Any = SourceOutput

    def rows(self) -> QuerySet[CatalogSource]:
        return counted(CatalogSource.objects.visible_to(self.actor).select_related("added_by"))


class SourceList(SourceView, Lists, Posts):
    input = SourceInput
    permission = "images.manage"
    docs = {"GET": "List the catalog sources.", "POST": "Add a catalog source."}

    def perform(self, data: dict[str, Any]) -> CatalogSource:
        return counted(
            CatalogSource.objects.filter(pk=sources.add_source(self.actor, **data).pk)
        ).get()


class SourceItem(SourceView, Shows, Patches):
    changes: ClassVar[type[Input]] = SourceInput
    docs = {
        "GET": "Show a catalog source; its connection is masked.",
        "PATCH": "Change a source. A connection that is left out stays.",
        "DELETE": "Remove a source that has no images, and forget its keys.",
    }

    def change(self, thing: CatalogSource, data: dict[str, Any]) -> None:
        sources.change_source(self.actor, thing, **data)

    def delete(self, request: Request, **kwargs: Any) -> Response:
        sources.remove_source(self.actor, self.target())
        return Response(status=204)


class SourceImport(SourceView, VerbView):
    permission = "images.manage"
    input = ImportInput
    output = VerbView.output
    docs = {
        "POST": "Bring what the source's metadata describes into the catalog. The job's result "
        "names what was added, updated and skipped."
    }

    def act(self, target: CatalogSource, data: dict[str, Any]) -> Job:
        return sources.request_import(self.actor, target, **data)


class SourcePush(SourceView, VerbView):
    permission = "images.manage"
    input = PushInput
    output = VerbView.output
    docs = {
        "POST": "Have a host pack a stopped VM into this storage. The job's result names the image."
    }

    def act(self, target: CatalogSource, data: dict[str, Any]) -> Job:
        self.actor.require(self.permission)  # before hosts are told from absent ones
        hosts = Host.objects.visible_to(self.actor).select_related("status")
        host = resolve(hosts.defer("password", "api_key"), data.pop("host"), field="host")
        return pushing.push(self.actor, target, host, **data)


class SourceBrowse(SourceView):
    output = OffersOutput
    docs = {"GET": "List what another catalog offers to you, asking it now."}

    def get(self, request: Request, **kwargs: Any) -> Response:
        found = remotes.browse(self.actor, self.target())
        return Response(self.represent({"results": found}))


urlpatterns = [
    route("sources/", SourceList, "sources"),
    route("sources/<uuid:id>/", SourceItem, "source"),
    route("sources/<uuid:id>/browse/", SourceBrowse, "source-browse"),
    route("sources/<uuid:id>/import/", SourceImport, "source-import"),
    route("sources/<uuid:id>/push/", SourcePush, "source-push"),
]
