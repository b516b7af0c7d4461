"""Environments, what is deployed on them, dictionaries."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import django_filters
from drf_spectacular.utils import extend_schema_field
from rest_framework import serializers
from rest_framework.response import Response

from deployments import dictionaries, environments
from deployments.api.packages import Keys
from deployments.models import (
    Application,
    DeployedApplication,
    Dictionary,
    Environment,
    Member,
)
from hosts.models import Host
from orchestrator.api.references import resolve
from orchestrator.api.serializers import Flag, Input, OneOf, Output, ReferenceOutput, Text, Texts
from orchestrator.api.views import ApiView, Lists, Patches, Posts, Shows
from vms.models import VirtualMachine

if TYPE_CHECKING:
    from django.db.models import QuerySet
    from rest_framework.request import Request

GROUP = {"required": False, "allow_null": True, "min_value": -(2**31), "max_value": 2**31 - 1}


class MemberOutput(Output):
    """A VM, a host, or all that have a tag, with their place in the environment."""

    id = serializers.UUIDField()
    vm = ReferenceOutput(allow_null=True)
    host = ReferenceOutput(allow_null=True)
    noun = serializers.CharField(help_text="Of a tag: `vm` or `host`; else empty.")
    tag = serializers.CharField()
    group = serializers.IntegerField(allow_null=True)
    sub_group = serializers.IntegerField(allow_null=True)
    sub_sub_group = serializers.IntegerField(allow_null=True)
    labels = Keys()
    tags = serializers.ListField(child=serializers.CharField())
    balancer = serializers.CharField()


class EnvironmentOutput(Output):
    """Where packages go."""

    id = serializers.UUIDField()
    name = serializers.CharField()
    description = serializers.CharField()
    restricted = serializers.BooleanField(help_text="Only those on its list act in it.")
    policy = Keys(help_text="`max_unavailable`, `exclusive`, `on_failure`.")
    balancers = Keys()
    dictionaries = serializers.SerializerMethodField(help_text="In order: the first wins.")
    members = MemberOutput(many=True)
    created_at = serializers.DateTimeField()

    @extend_schema_field(ReferenceOutput(many=True))
    def get_dictionaries(self, one: Environment) -> Any:
        used = [use.dictionary for use in one.uses.all()]
        return ReferenceOutput(used, many=True).data


class MemberInput(Input):
    vm = Text(max_length=100, required=False, help_text="Id or name,")
    host = Text(max_length=100, required=False, help_text="or of a host,")
    tag = Text(max_length=100, required=False, help_text="or all that have a tag:")
    noun = OneOf(Member.Noun.choices, required=False, help_text="VMs (the default) or hosts.")
    group = serializers.IntegerField(**GROUP)  # type: ignore[arg-type]
    sub_group = serializers.IntegerField(**GROUP)  # type: ignore[arg-type]
    sub_sub_group = serializers.IntegerField(**GROUP)  # type: ignore[arg-type]
    labels = Keys(required=False)
    tags = Texts(required=False)
    balancer = Text(max_length=100, required=False, allow_blank=True)


class EnvironmentChanges(Input):
    name = Text(max_length=100, required=False)
    description = Text(max_length=10_000, allow_blank=True, required=False)
    policy = Keys(required=False)
    balancers = Keys(required=False)
    dictionaries = Texts(required=False, help_text="Ids or names, in order.")
    members = MemberInput(many=True, required=False, help_text="All of them: others go.")


class EnvironmentInput(EnvironmentChanges):
    name = Text(max_length=100)
    restricted = Flag(required=False, help_text="Only those on its list act in it: you, at first.")


class EnvironmentFilter(django_filters.FilterSet):
    name = django_filters.CharFilter(lookup_expr="iexact")

    class Meta:
        model = Environment
        fields = ["name"]


class EnvironmentView(ApiView):
    tag = "environments"
    model = Environment
    output: Any = EnvironmentOutput

    def rows(self) -> QuerySet[Environment]:
        return Environment.objects.visible_to(self.actor).prefetch_related(
            "members__vm", "members__host", "uses__dictionary"
        )

    def found(self, data: dict[str, Any]) -> dict[str, Any]:
        """Return the fields with what they name instead of the names."""
        self.actor.require("deployments.manage")
        fields = dict(data)
        if "dictionaries" in fields:
            rows = Dictionary.objects.visible_to(self.actor)
            fields["dictionaries"] = [
                resolve(rows, one, field="dictionaries") for one in fields["dictionaries"]
            ]
        if "members" in fields:
            fields["members"] = [self._member(one) for one in fields["members"]]
        return fields

    def _member(self, data: dict[str, Any]) -> dict[str, Any]:
        values = dict(data)
        rows: dict[str, Any] = {
            "vm": VirtualMachine.objects.visible_to(self.actor).open(),
            "host": Host.objects.visible_to(self.actor),
        }
        for name, visible in rows.items():
            if values.get(name):
                values[name] = resolve(visible, values[name], field="members")
        return values


class EnvironmentList(EnvironmentView, Lists, Posts):
    input = EnvironmentInput
    permission = "deployments.manage"
    filterset_class = EnvironmentFilter
    docs = {"GET": "List the environments.", "POST": "Make an environment."}

    def perform(self, data: dict[str, Any]) -> Environment:
        made = environments.create_environment(self.actor, **self.found(data))
        return self.get_queryset().get(pk=made.pk)


class EnvironmentItem(EnvironmentView, Shows, Patches):
    changes = EnvironmentChanges
    docs = {
        "GET": "Show an environment with its members.",
        "PATCH": "Change an environment. `members` and `dictionaries` replace what is there.",
        "DELETE": "Delete an environment on which nothing is or was deployed.",
    }

    def change(self, thing: Environment, data: dict[str, Any]) -> None:
        environments.update_environment(self.actor, thing, **self.found(data))

    def delete(self, request: Request, **kwargs: Any) -> Response:
        environments.delete_environment(self.actor, self.target())
        return Response(status=204)


class DeployedOutput(Output):
    """A deployable on a container, as it is there. Secrets are masked."""

    name = serializers.CharField()
    container = serializers.CharField(help_text="`vm:<id>` or `host:<id>`.")
    container_name = serializers.CharField()
    value = serializers.SerializerMethodField()
    created_vm = serializers.UUIDField(source="created_vm_id", allow_null=True)

    @extend_schema_field(Keys())
    def get_value(self, one: Any) -> Any:
        return dictionaries.masked(one.value)


class DeployedApplicationOutput(Output):
    """An application at a version on an environment."""

    id = serializers.UUIDField()
    application = ReferenceOutput()
    version = serializers.CharField(source="package.version")
    package = serializers.UUIDField(source="package_id")
    orchestrators = serializers.ListField(child=serializers.CharField())
    as_dependency = serializers.BooleanField(help_text="Another application brought it along.")
    partial = serializers.BooleanField(  # type: ignore[assignment]
        help_text="The last deployment did not get to its end."
    )
    deployeds = DeployedOutput(many=True)
    updated_at = serializers.DateTimeField()


class EnvironmentDeployed(Lists):
    tag = "environments"
    model = DeployedApplication
    output = DeployedApplicationOutput
    docs = {"GET": "List what is deployed on an environment, and where."}

    def rows(self) -> QuerySet[DeployedApplication]:
        environment = self.find(self.kwargs["id"], Environment.objects.visible_to(self.actor))
        rows = environment.deployed_applications.select_related("application", "package")
        found: QuerySet[DeployedApplication] = rows.prefetch_related("deployeds")
        return found


class EntryOutput(Output):
    """A value. A secret one is never shown."""

    key = serializers.CharField()
    value = serializers.CharField()
    secret = serializers.BooleanField()
    revision = serializers.IntegerField()


class DictionaryOutput(Output):
    """Values for placeholders."""

    id = serializers.UUIDField()
    name = serializers.CharField()
    description = serializers.CharField()
    applications = ReferenceOutput(many=True, help_text="Only for these; for all when empty.")
    containers = serializers.ListField(child=serializers.CharField())
    entries = EntryOutput(many=True)
    created_at = serializers.DateTimeField()


class DictionaryChanges(Input):
    name = Text(max_length=100, required=False)
    description = Text(max_length=10_000, allow_blank=True, required=False)
    applications = Texts(required=False, help_text="Ids or names.")
    containers = Texts(required=False, help_text="Paths: `vm:<id>`, `host:<id>`.")
    entries = serializers.DictField(
        child=Text(allow_blank=True, allow_null=True, trim_whitespace=False),
        required=False,
        help_text="Key → value; null removes a key. Others stay.",
    )
    secrets = serializers.DictField(
        child=Text(allow_blank=True, allow_null=True, trim_whitespace=False),
        required=False,
        write_only=True,
        help_text="As `entries`, never shown again.",
    )


class DictionaryInput(DictionaryChanges):
    name = Text(max_length=100)


class DictionaryView(ApiView):
    tag = "environments"
    model = Dictionary
    output: Any = DictionaryOutput

    def rows(self) -> QuerySet[Dictionary]:
        return Dictionary.objects.visible_to(self.actor).prefetch_related("entries", "applications")

    def found(self, data: dict[str, Any]) -> dict[str, Any]:
        self.actor.require("deployments.manage")
        fields = dict(data)
        if "applications" in fields:
            rows = Application.objects.visible_to(self.actor)
            fields["applications"] = [
                resolve(rows, one, field="applications") for one in fields["applications"]
            ]
        return fields


class DictionaryFilter(django_filters.FilterSet):
    name = django_filters.CharFilter(lookup_expr="iexact")

    class Meta:
        model = Dictionary
        fields = ["name"]


class DictionaryList(DictionaryView, Lists, Posts):
    input = DictionaryInput
    permission = "deployments.manage"
    filterset_class = DictionaryFilter
    docs = {"GET": "List the dictionaries.", "POST": "Make a dictionary."}

    def perform(self, data: dict[str, Any]) -> Dictionary:
        made = dictionaries.create_dictionary(self.actor, **self.found(data))
        return self.get_queryset().get(pk=made.pk)


class DictionaryItem(DictionaryView, Shows, Patches):
    changes = DictionaryChanges
    docs = {
        "GET": "Show a dictionary; its secrets are masked.",
        "PATCH": "Change a dictionary: keys that are given are set, or removed by null.",
        "DELETE": "Delete a dictionary that no environment uses.",
    }

    def change(self, thing: Dictionary, data: dict[str, Any]) -> None:
        dictionaries.update_dictionary(self.actor, thing, **self.found(data))

    def delete(self, request: Request, **kwargs: Any) -> Response:
        dictionaries.delete_dictionary(self.actor, self.target())
        return Response(status=204)
