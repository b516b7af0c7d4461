"""Applications, packages, artifacts."""

from __future__ import annotations

import io
from typing import TYPE_CHECKING, Any

import django_filters
from django.http import FileResponse, HttpResponse
from drf_spectacular.types import OpenApiTypes
from drf_spectacular.utils import OpenApiParameter, extend_schema, extend_schema_field
from rest_framework import serializers
from rest_framework.exceptions import UnsupportedMediaType
from rest_framework.parsers import BaseParser
from rest_framework.response import Response

from deployments import artifacts, documents, packages, types
from deployments.models import Application, Artifact, Package
from orchestrator.api.serializers import Input, Output, ReferenceOutput, Text
from orchestrator.api.views import ApiView, Lists, Patches, Posts, Shows
from orchestrator.refusals import Invalid

if TYPE_CHECKING:
    from django.db.models import QuerySet
    from rest_framework.request import Request

JSON = OpenApiTypes.OBJECT


@extend_schema_field(JSON)
class Keys(serializers.DictField):
    """Keys with JSON values, checked by the domain function."""


class ApplicationOutput(Output):
    """A named holder of versions."""

    id = serializers.UUIDField()
    name = serializers.CharField()
    description = serializers.CharField()
    created_at = serializers.DateTimeField()


class ApplicationChanges(Input):
    description = Text(max_length=10_000, allow_blank=True, required=False)


class MemberReference(Output):
    """A package of a composite."""

    id = serializers.UUIDField(source="member.pk")
    application = serializers.CharField(source="member.application.name")
    version = serializers.CharField(source="member.version")


class DeployableOutput(Output):
    """What a package wants on containers."""

    name = serializers.CharField()
    type = serializers.CharField(help_text=f"One of {', '.join(types.TYPES)}.")
    tags = serializers.ListField(child=serializers.CharField())
    properties = Keys()
    sha256 = serializers.SerializerMethodField(help_text="Of its file; empty without one.")

    def get_sha256(self, one: Any) -> str:
        return one.artifact.sha256 if one.artifact else ""


class PackageOutput(Output):
    """One version of one application. It never changes."""

    id = serializers.UUIDField()
    application = ReferenceOutput()
    version = serializers.CharField()
    description = serializers.CharField()
    orchestrators = serializers.ListField(child=serializers.CharField())
    dependencies = Keys(help_text="Application → range of versions.")
    policy = Keys(help_text="Gate, failures, approvals.")
    packages = MemberReference(many=True, source="parts", help_text="Of a composite, in order.")
    deployables = DeployableOutput(many=True)
    created_at = serializers.DateTimeField()


class DeployableInput(Input):
    name = Text(max_length=100)
    type = Text(max_length=40, help_text=f"One of {', '.join(types.TYPES)}.")
    tags = serializers.ListField(child=serializers.CharField(), required=False)
    content = Text(
        required=False, trim_whitespace=False, help_text="Of a file: its text,", allow_blank=True
    )
    sha256 = Text(max_length=64, required=False, help_text="or an artifact's checksum.")
    properties = Keys(required=False, help_text="Of the type.")


class PackageReferenceInput(Input):
    application = Text(max_length=100)
    version = Text(max_length=60)


class PackageInput(Input):
    """The document of a package, as `docs/deployments.md` describes it."""

    application = Text(max_length=100)
    version = Text(max_length=60)
    description = Text(max_length=10_000, allow_blank=True, required=False)
    orchestrators = serializers.ListField(child=serializers.CharField(), required=False)
    dependencies = Keys(required=False)
    policy = Keys(required=False)
    packages = PackageReferenceInput(many=True, required=False)
    deployables = DeployableInput(many=True, required=False)


class PackageImportInput(Input):
    yaml = Text(required=False, trim_whitespace=False, help_text="The document as YAML,")
    artifact = Text(
        required=False, max_length=64, help_text="or the SHA-256 of a zip that was uploaded."
    )


class ArtifactOutput(Output):
    """A file that packages may have."""

    id = serializers.UUIDField()
    sha256 = serializers.CharField()
    size = serializers.IntegerField(help_text="Bytes.")
    created_at = serializers.DateTimeField()


class ApplicationFilter(django_filters.FilterSet):
    name = django_filters.CharFilter(lookup_expr="iexact")

    class Meta:
        model = Application
        fields = ["name"]


class PackageFilter(django_filters.FilterSet):
    application = django_filters.CharFilter("application__name", lookup_expr="iexact")
    version = django_filters.CharFilter()

    class Meta:
        model = Package
        fields = ["application", "version"]


class ApplicationView(ApiView):
    tag = "packages"
    model = Application
    output: Any = ApplicationOutput

    def rows(self) -> QuerySet[Application]:
        return Application.objects.visible_to(self.actor)


class ApplicationList(ApplicationView, Lists):
    filterset_class = ApplicationFilter
    docs = {"GET": "List the applications. One comes with its first package."}


class ApplicationItem(ApplicationView, Shows, Patches):
    changes = ApplicationChanges
    docs = {
        "GET": "Show an application.",
        "PATCH": "Change what is said about an application.",
        "DELETE": "Delete an application that has no version left.",
    }

    def change(self, thing: Application, data: dict[str, Any]) -> None:
        self.actor.require("deployments.manage")
        if "description" in data:
            packages.describe_application(self.actor, thing, description=data["description"])

    def delete(self, request: Request, **kwargs: Any) -> Response:
        packages.delete_application(self.actor, self.target())
        return Response(status=204)


class PackageView(ApiView):
    tag = "packages"
    model = Package
    output: Any = PackageOutput

    def rows(self) -> QuerySet[Package]:
        return Package.objects.visible_to(self.actor).whole()


class PackageList(PackageView, Lists, Posts):
    input = PackageInput
    permission = "deployments.manage"
    filterset_class = PackageFilter
    docs = {
        "GET": "List the packages: all versions of all applications.",
        "POST": "Make a package from its document. Files are uploaded to artifacts/ before.",
    }

    def perform(self, data: dict[str, Any]) -> Package:
        made = packages.create_package(self.actor, _plain(data))
        return self.get_queryset().get(pk=made.pk)


class PackageImport(PackageView, Posts):
    input = PackageImportInput
    permission = "deployments.manage"
    docs = {"POST": "Make a package from YAML, or from a zip that was uploaded as an artifact."}

    def perform(self, data: dict[str, Any]) -> Package:
        if ("yaml" in data) == ("artifact" in data):
            raise Invalid.field("yaml", "Give either yaml or artifact.")
        if "yaml" in data:
            made = packages.import_package(self.actor, io.BytesIO(data["yaml"].encode()))
        else:
            self.actor.require(self.permission)
            found = Artifact.objects.filter(sha256=data["artifact"]).first()
            if found is None:
                raise Invalid.field("artifact", "There is no artifact with this SHA-256.")
            with artifacts.opened(found) as stream:
                made = packages.import_package(self.actor, stream)
        return self.get_queryset().get(pk=made.pk)

    def location(self, thing: Any) -> str:
        return super().location(thing).replace("/import/", "/")


class PackageItem(PackageView, Shows):
    docs = {
        "GET": "Show a package.",
        "DELETE": "Delete a package that is nowhere deployed and in no composite.",
    }

    def delete(self, request: Request, **kwargs: Any) -> Response:
        packages.delete_package(self.actor, self.target())
        return Response(status=204)


class DocumentOutput(Output):
    """The document of a package."""

    yaml = serializers.CharField()


class PackageExport(PackageView):
    output = DocumentOutput
    query = {
        "GET": [
            OpenApiParameter(
                "as",
                str,
                enum=["yaml", "zip"],
                description="`zip`: with its files, as a download. Default: `yaml`.",
            )
        ]
    }
    docs = {"GET": "Give a package out: as YAML, or as a zip with its files."}

    @extend_schema(
        responses={
            (200, "application/json"): DocumentOutput,
            (200, "application/zip"): OpenApiTypes.BINARY,
        }
    )
    def get(self, request: Request, **kwargs: Any) -> Response | FileResponse:
        package = self.target()
        wanted = request.query_params.get("as", "yaml")
        if wanted not in ("yaml", "zip"):
            raise Invalid.field("as", "Give yaml or zip.")
        if wanted == "zip":
            return download(package)
        return Response({"yaml": documents.write_yaml(packages.document_of(package))})


def download(package: Package) -> FileResponse:
    """Return the zip of a package as a download."""
    name = f"{package.application.name}-{package.version}.zip"
    response = FileResponse(
        packages.export(package), as_attachment=True, filename=name, content_type="application/zip"
    )
    response["Cache-Control"] = "no-store"
    return response


class Bytes(BaseParser):
    """A body that is taken as it is, in pieces: nothing is read of it here, the view does."""

    media_type = "application/octet-stream"

    def parse(self, *args: Any, **kwargs: Any) -> dict[str, Any]:
        return {}


class ArtifactList(ApiView):
    tag = "packages"
    model = Artifact
    output = ArtifactOutput
    parser_classes = [Bytes]
    input = OpenApiTypes.BINARY
    status = 201
    docs = {
        "POST": "Upload a file, as the body itself. The same file again is the same artifact; one "
        "that no package has is deleted after a day."
    }

    def rows(self) -> QuerySet[Artifact]:
        rows = Artifact.objects.all()
        return rows if self.actor.can("deployments.view") else rows.none()

    def initial(self, request: Request, *args: Any, **kwargs: Any) -> None:
        super(ApiView, self).initial(request, *args, **kwargs)  # the body stays unread

    def post(self, request: Request, **kwargs: Any) -> Response | HttpResponse:
        self.actor.require("deployments.manage")
        kind = (request.content_type or "").partition(";")[0].strip().lower()
        if kind != Bytes.media_type:
            raise UnsupportedMediaType(kind)
        made = artifacts.store(request._request)  # type: ignore[arg-type]
        return Response(self.represent(made), status=201)


def _plain(value: Any) -> Any:
    """Return what DRF made of a body as plain JSON."""
    if isinstance(value, dict):
        return {key: _plain(one) for key, one in value.items()}
    if isinstance(value, list):
        return [_plain(one) for one in value]
    return value
