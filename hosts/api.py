"""`/api/v2/hosts/`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar

import django_filters
from drf_spectacular.types import OpenApiTypes
from drf_spectacular.utils import OpenApiParameter
from rest_framework import serializers

from accounts.api.serializers import UserReference
from hosts import enrolment, holds, removal, verbs
from hosts.models import RESOURCES, Architecture, Health, Host, HostCapacity, HostHold, HostVM
from jobs.api import DeletesByVerb, VerbView
from orchestrator.api import idempotency
from orchestrator.api.pagination import InOrder
from orchestrator.api.routing import route
from orchestrator.api.serializers import Flag, Input, Moment, Output, Secret, Text, Texts
from orchestrator.api.views import ApiView, Lists, Patches, Posts, Shows
from orchestrator.refusals import Invalid

if TYPE_CHECKING:
    from django.db.models import QuerySet

    from jobs.models import Job


class HoldOutput(Output):
    """A reason not to use a host."""

    id = serializers.UUIDField()
    kind = serializers.ChoiceField(HostHold.Kind.choices)
    reason = serializers.CharField()
    by = UserReference(allow_null=True)
    since = serializers.DateTimeField(source="created_at")
    until = serializers.DateTimeField(allow_null=True)


class PastHoldOutput(HoldOutput):
    """A hold with its history."""

    starts_at = serializers.DateTimeField(
        allow_null=True, help_text="Of a planned window; null for what began at once."
    )
    ended_at = serializers.DateTimeField(allow_null=True)


class AmountOutput(Output):
    """One resource of a host: `free` is what could be charged now."""

    total = serializers.IntegerField()
    reserved = serializers.IntegerField(help_text="Kept for the system.")
    foreign = serializers.IntegerField(help_text="Taken by VMs that are not ours.")
    charged = serializers.IntegerField(help_text="Taken by our VMs.")
    free = serializers.IntegerField(help_text="Negative when over-committed.")


class CapacityOutput(Output):
    """What a host has and who uses it."""

    cpus = AmountOutput()
    memory_mib = AmountOutput()
    disk_gib = AmountOutput()
    macos_slots = AmountOutput()
    overcommitted = serializers.BooleanField()

    def to_representation(self, instance: HostCapacity) -> dict[str, Any]:
        amounts = {
            resource: {
                **{
                    part: getattr(instance, f"{resource}_{part}")
                    for part in ("total", "reserved", "foreign", "charged")
                },
                "free": instance.free(resource),
            }
            for resource in RESOURCES
        }
        return {**amounts, "overcommitted": instance.overcommitted}


class HostOutput(Output):
    """A machine of the pool. Its credentials are never shown."""

    id = serializers.UUIDField()
    name = serializers.CharField()
    url = serializers.CharField()
    driver = serializers.ChoiceField(Host.Driver.choices)
    authentication = serializers.SerializerMethodField()
    tls_fingerprint = serializers.CharField(help_text="Pinned SHA-256; empty when none is.")
    tags = serializers.ListField(child=serializers.CharField())
    health = serializers.ChoiceField(Health.choices, source="status.health")
    health_reason = serializers.CharField(source="status.reason")
    health_changed_at = serializers.DateTimeField(source="status.changed_at", allow_null=True)
    last_seen_at = serializers.DateTimeField(source="status.last_seen_at", allow_null=True)
    latency_ms = serializers.FloatField(source="status.latency_ms", allow_null=True)
    architecture = serializers.CharField(source="status.architecture")
    cpu_brand = serializers.CharField(source="status.cpu_brand")
    os_name = serializers.CharField(source="status.os_name")
    os_version = serializers.CharField(source="status.os_version")
    devops_version = serializers.CharField(source="status.devops_version")
    desktop_version = serializers.CharField(source="status.desktop_version")
    clock_offset_seconds = serializers.FloatField(
        source="status.clock_offset_seconds", allow_null=True
    )
    inventory_at = serializers.DateTimeField(source="status.inventory_at", allow_null=True)
    inventory_problem = serializers.CharField(source="status.inventory_problem")
    events_live = serializers.SerializerMethodField(
        help_text="The host tells changes by itself, so they show at once. Else it is only polled."
    )
    events_problem = serializers.SerializerMethodField(help_text="Why no events come in.")
    holds = HoldOutput(many=True, source="live_holds")
    capacity = CapacityOutput()
    created_at = serializers.DateTimeField()

    def get_events_live(self, host: Host) -> bool:
        watch = getattr(host, "watch", None)
        return bool(watch and watch.is_live)

    def get_events_problem(self, host: Host) -> str:
        watch = getattr(host, "watch", None)
        return watch.problem if watch else ""

    def get_authentication(self, host: Host) -> str:
        return "password" if host.username else "api_key"


class HostVMOutput(Output):
    """A VM as its host listed it, in the host's words."""

    host_vm_id = serializers.CharField()
    name = serializers.CharField()
    state = serializers.CharField()
    type = serializers.CharField()
    os = serializers.CharField()
    cpus = serializers.IntegerField()
    memory_mib = serializers.IntegerField()
    disk_gib = serializers.IntegerField()
    ip_address = serializers.CharField()
    home = serializers.CharField(help_text="The folder of its files; empty if not told.")
    claimed = serializers.BooleanField(help_text="Ours; everything else is foreign.")
    seen_at = serializers.DateTimeField()


class HostInput(Input):
    name = Text(max_length=100)
    url = Text(max_length=300)
    username = Text(max_length=200, required=False)
    password = Secret(max_length=1000, required=False)
    api_key = Secret(max_length=1000, required=False)
    tags = Texts(required=False)
    tls_fingerprint = Text(max_length=120, required=False, help_text="SHA-256 to pin.")
    allow_known_machine = Flag(
        required=False, help_text="Enrol it although the same machine is enrolled already."
    )


class HostChanges(Input):
    name = Text(max_length=100, required=False)
    username = Text(max_length=200, required=False)
    password = Secret(max_length=1000, required=False)
    api_key = Secret(max_length=1000, required=False)
    tags = Texts(required=False)
    tls_fingerprint = Text(max_length=120, required=False, allow_blank=True)


class HoldInput(Input):
    reason = Text(max_length=300, help_text="Everybody sees it.")
    until = Moment(required=False, allow_null=True)


class WindowInput(Input):
    reason = Text(max_length=300, help_text="Everybody sees it.")
    starts_at = Moment(required=False, allow_null=True, help_text="Default: at once.")
    until = Moment()


class HostFilter(django_filters.FilterSet):
    name = django_filters.CharFilter(lookup_expr="iexact")
    health = django_filters.MultipleChoiceFilter(
        field_name="status__health", choices=Health.choices
    )
    architecture = django_filters.ChoiceFilter(
        field_name="status__architecture", choices=Architecture.choices
    )

    class Meta:
        model = Host
        fields = ["name", "health", "architecture"]


class HostView(ApiView):
    tag = "hosts"
    model = Host
    output: Any = HostOutput

    def rows(self) -> QuerySet[Host]:
        # Not even read where nothing connects.
        return Host.objects.visible_to(self.actor).for_page().defer("password", "api_key")


class HostList(HostView, Lists, Posts):
    input = HostInput
    filterset_class = HostFilter
    permission = "hosts.manage"
    docs = {
        "GET": "List the hosts of the pool.",
        "POST": "Enrol a host. The connection is tried first; a refusal says what is wrong.",
    }

    def prepare(self, data: dict[str, Any]) -> dict[str, Any]:
        """Try the connection here when a key's transaction follows: none waits for a host."""
        if idempotency.HEADER not in self.request.headers:
            return data  # enrol() tries it by itself, before its own transaction
        self.actor.require(self.permission)
        found = enrolment.try_connection(
            data["url"],
            data.get("username", ""),
            data.get("password", ""),
            data.get("api_key", ""),
            data.get("tls_fingerprint", ""),
        )
        return data | {"found": found}

    def perform(self, data: dict[str, Any]) -> Host:
        host = enrolment.enrol(self.actor, **data)
        return self.find(host.pk, self.get_queryset())


class HostItem(HostView, Shows, Patches, DeletesByVerb):
    changes = HostChanges
    docs = {
        "GET": "Show a host: health, holds, capacity.",
        "PATCH": "Change name, tags, credentials or the pinned certificate. New credentials are "
        "tried first.",
        "DELETE": "Remove a host from the pool; its row stays for history.",
    }
    query: ClassVar[dict[str, list[Any]]] = {
        "DELETE": [
            OpenApiParameter(
                "forget_vms",
                OpenApiTypes.BOOL,
                description="Forget our VMs that are on it. Without it, a host that has some is "
                "refused.",
            )
        ]
    }

    def waits_for_others(self, data: dict[str, Any]) -> bool:
        return bool(data.keys() - {"name", "tags"})

    def change(self, host: Host, data: dict[str, Any]) -> None:
        enrolment.update_host(self.actor, host, **data)

    def remove(self, target: Host) -> Job:
        text = self.request.query_params.get("forget_vms", "false").lower()
        if text not in ("true", "false"):
            raise Invalid.field("forget_vms", "Say true or false.")
        return removal.remove(self.actor, target, forget_vms=text == "true")


class HostVMs(Lists):
    tag = "hosts"
    model = HostVM
    output = HostVMOutput
    pagination_class = InOrder
    docs = {"GET": "List the VMs that the host listed last, ours and foreign ones."}

    def rows(self) -> QuerySet[HostVM]:
        host = self.find(self.kwargs["id"], Host.objects.visible_to(self.actor))
        return HostVM.objects.filter(host=host)


class HostVerb(HostView, VerbView):
    """A verb on a host."""

    permission = "hosts.manage"
    output = VerbView.output


class HostCordon(HostVerb):
    input = HoldInput
    docs = {"POST": "Cordon a host: it takes no new VMs. Again replaces reason and end."}

    def act(self, target: Host, data: dict[str, Any]) -> Job:
        return holds.hold(self.actor, target, "cordon", **data)


class HostUncordon(HostVerb):
    docs = {"POST": "End the cordon of a host."}

    def act(self, target: Host, data: dict[str, Any]) -> Job:
        return holds.release(self.actor, target, "cordon")


class HostDisable(HostVerb):
    input = HoldInput
    docs = {"POST": "Disable a host: it takes no new VMs and is not polled."}

    def act(self, target: Host, data: dict[str, Any]) -> Job:
        return holds.hold(self.actor, target, "disable", **data)


class HostEnable(HostVerb):
    docs = {"POST": "Enable a host that was disabled."}

    def act(self, target: Host, data: dict[str, Any]) -> Job:
        return holds.release(self.actor, target, "disable")


class HostMaintain(HostVerb):
    input = WindowInput
    docs = {"POST": "Plan a window in which a host takes no new VMs. It begins and ends by itself."}

    def act(self, target: Host, data: dict[str, Any]) -> Job:
        return holds.plan_maintenance(self.actor, target, **data)


class HostHolds(Lists):
    tag = "hosts"
    model = HostHold
    output = PastHoldOutput
    docs = {"GET": "List the holds of a host: those in force, planned and ended."}

    def rows(self) -> QuerySet[HostHold]:
        host = self.find(self.kwargs["id"], Host.objects.visible_to(self.actor))
        return HostHold.objects.filter(host=host).select_related("by")


class HostHoldEnd(HostVerb):
    docs = {"POST": "End one hold, or take a planned window back."}

    def act(self, target: Host, data: dict[str, Any]) -> Job:
        rows = HostHold.objects.filter(host=target).select_related("host")
        return holds.end(self.actor, self.find(self.kwargs["hold"], rows))


class HostInventory(HostVerb):
    docs = {"POST": "Read the inventory of a host now."}

    def act(self, target: Host, data: dict[str, Any]) -> Job:
        return verbs.request_inventory(self.actor, target)


urlpatterns = [
    route("hosts/", HostList, "hosts"),
    route("hosts/<uuid:id>/", HostItem, "host"),
    route("hosts/<uuid:id>/vms/", HostVMs, "host-vms"),
    route("hosts/<uuid:id>/cordon/", HostCordon, "host-cordon"),
    route("hosts/<uuid:id>/uncordon/", HostUncordon, "host-uncordon"),
    route("hosts/<uuid:id>/disable/", HostDisable, "host-disable"),
    route("hosts/<uuid:id>/enable/", HostEnable, "host-enable"),
    route("hosts/<uuid:id>/maintain/", HostMaintain, "host-maintain"),
    route("hosts/<uuid:id>/holds/", HostHolds, "host-holds"),
    route("hosts/<uuid:id>/holds/<uuid:hold>/end/", HostHoldEnd, "host-hold-end"),
    route("hosts/<uuid:id>/inventory/", HostInventory, "host-inventory"),
]
