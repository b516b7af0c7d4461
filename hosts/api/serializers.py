from __future__ import annotations

from typing import Any

from rest_framework import serializers

from accounts.api.serializers import UserReference
from hosts.models import RESOURCES, Health, Host, HostCapacity, HostHold
from orchestrator.api.serializers import Flag, Input, Moment, Output, Secret, Text, Texts


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


class RegisterInput(Input):
    path = Text(max_length=1000, help_text="Of a .pvm or .macvm on the host's disk.")
    name = Text(max_length=200, required=False, help_text="Default: its own.")
    new_id = Flag(required=False, help_text="For a copy of a VM that the host lists.")


class UnregisterInput(Input):
    host_vm_id = Text(max_length=255)


class LogsOutput(Output):
    """The end of a host's log, as it is now."""

    lines = serializers.ListField(child=serializers.CharField(), help_text="The newest is last.")


class ProxyRouteOutput(Output):
    """Where what comes in is sent."""

    path = serializers.CharField(help_text="Empty for all of a TCP port.")
    target = serializers.CharField(help_text="An address, or the id of a VM on the host.")
    target_is_vm = serializers.BooleanField()
    target_port = serializers.CharField()


class ProxyHostOutput(Output):
    """An address that the proxy listens at."""

    id = serializers.CharField(help_text="The host's.")
    name = serializers.CharField()
    host = serializers.CharField()
    port = serializers.CharField()
    tls = serializers.BooleanField()
    routes = ProxyRouteOutput(many=True)


class ReverseProxyOutput(Output):
    """What a host's reverse proxy does now."""

    available = serializers.BooleanField(help_text="The host has one.")
    enabled = serializers.BooleanField()
    host = serializers.CharField()
    port = serializers.CharField()
    hosts = ProxyHostOutput(many=True)
