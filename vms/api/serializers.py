from __future__ import annotations

from datetime import datetime
from typing import Any, TypedDict

from rest_framework import serializers

from accounts.api.serializers import HitOutput, UserReference
from accounts.revocation import CHOICES
from hosts.models import Architecture
from orchestrator.api.serializers import (
    Flag,
    Input,
    Moment,
    OneOf,
    Output,
    ReferenceOutput,
    Text,
    Texts,
    Variables,
    Whole,
)
from vms import queue
from vms.api.configuration import ConfigurationOutput
from vms.api.receipts import ReceiptOutput
from vms.models import Grant, LeaseEnd, Template, VirtualMachine
from vms.states import State


class ImageReference(ReferenceOutput):
    """An image that a template uses."""

    architecture = serializers.ChoiceField(Architecture.choices)


class TemplateOutput(Output):
    """What a pipeline asks for."""

    id = serializers.UUIDField()
    name = serializers.CharField()
    description = serializers.CharField()
    images = ImageReference(many=True, help_text="At most one for each architecture.")
    clone_of = serializers.CharField(help_text="The name of a VM on hosts; else empty.")
    of_image = serializers.UUIDField(
        source="of_image_id",
        allow_null=True,
        help_text="The image whose own template it is: without grants, open to whom that is.",
    )
    os = serializers.ChoiceField(Template.OS.choices)
    cpus = serializers.IntegerField()
    memory_mib = serializers.IntegerField()
    disk_gib = serializers.IntegerField()
    host_tags = serializers.ListField(child=serializers.CharField())
    start = serializers.BooleanField()
    default_lease_seconds = serializers.IntegerField()
    maximum_lease_seconds = serializers.IntegerField()
    lease_end = serializers.ChoiceField(LeaseEnd.choices)
    owner = UserReference(allow_null=True)
    revoked_at = serializers.DateTimeField(allow_null=True)
    created_at = serializers.DateTimeField()
    updated_at = serializers.DateTimeField()


class TemplateInput(Input):
    name = Text(max_length=100)
    description = Text(max_length=10_000, required=False, allow_blank=True)
    images = Texts(required=False, help_text="Ids; or else `clone_of`.")
    clone_of = Text(max_length=200, required=False, help_text="The name of a VM on hosts.")
    os = OneOf(Template.OS.choices, required=False)
    cpus = Whole(min_value=1)
    memory_mib = Whole(min_value=1)
    disk_gib = Whole(min_value=1)
    host_tags = Texts(required=False, help_text="A host must have them all.")
    start = Flag(required=False, help_text="Start the VM when it is made. Default: true.")
    default_lease_seconds = Whole(min_value=1)
    maximum_lease_seconds = Whole(min_value=1)
    lease_end = OneOf(LeaseEnd.choices)


class TemplateChanges(Input):
    name = Text(max_length=100, required=False)
    description = Text(max_length=10_000, required=False, allow_blank=True)
    images = Texts(required=False, help_text="Ids.")
    os = OneOf(Template.OS.choices, required=False)
    cpus = Whole(min_value=1, required=False)
    memory_mib = Whole(min_value=1, required=False)
    disk_gib = Whole(min_value=1, required=False)
    host_tags = Texts(required=False)
    start = Flag(required=False)
    default_lease_seconds = Whole(min_value=1, required=False)
    maximum_lease_seconds = Whole(min_value=1, required=False)
    lease_end = OneOf(LeaseEnd.choices, required=False)


class RoleReference(Output):
    """A role that something names."""

    id = serializers.UUIDField()
    name = serializers.CharField()


class GrantOutput(Output):
    """Who may use a template, and within which limits."""

    id = serializers.UUIDField()
    template = ReferenceOutput()
    user = UserReference(allow_null=True)
    role = RoleReference(allow_null=True)
    level = serializers.ChoiceField(Grant.Level.choices)
    maximum_vms = serializers.IntegerField(allow_null=True)
    vms = serializers.SerializerMethodField(
        help_text="VMs in use against `maximum_vms`; null without one."
    )
    maximum_lease_seconds = serializers.IntegerField(allow_null=True)
    expires_at = serializers.DateTimeField(allow_null=True)
    revoked_at = serializers.DateTimeField(allow_null=True)
    created_by = UserReference(allow_null=True)
    created_at = serializers.DateTimeField()

    def get_vms(self, grant: Grant) -> int | None:
        return None if grant.maximum_vms is None else grant.vms


class GrantInput(Input):
    template = Text(max_length=100, help_text="Id or name.")
    user = Text(max_length=150, required=False, help_text="Id or name; or else `role`.")
    role = Text(max_length=150, required=False, help_text="Id or name.")
    level = OneOf(Grant.Level.choices)
    maximum_vms = Whole(min_value=1, required=False, allow_null=True)
    maximum_lease_seconds = Whole(min_value=1, required=False, allow_null=True)
    expires_at = Moment(required=False, allow_null=True)


class LosingToken(Output):
    """A token that could not ask for the template any more."""

    id = serializers.UUIDField()
    name = serializers.CharField()
    owner = serializers.CharField(source="user.username")


class ImpactOutput(Output):
    """What a revocation would reach now, and what may become of the running VMs."""

    hits = HitOutput(many=True)
    tokens = LosingToken(many=True)
    choices = serializers.ListField(child=serializers.ChoiceField(CHOICES))


class VMOutput(Output):
    """A VM, from request to the proof that it is gone."""

    id = serializers.UUIDField()
    name = serializers.CharField()
    host_name = serializers.SerializerMethodField(help_text="Its name on the host; null before.")
    state = serializers.ChoiceField(State.choices)
    unknown = serializers.BooleanField(
        source="is_unknown", help_text="The host does not answer: the state is the last known."
    )
    desired_state = serializers.CharField()
    observed_state = serializers.CharField(help_text="In the host's words.")
    observed_at = serializers.DateTimeField(allow_null=True)
    reason = serializers.CharField(help_text="Why it waits, or why it ended.")
    problem = serializers.CharField(help_text="What is wrong with it while it exists.")
    template = ReferenceOutput()
    host = ReferenceOutput(allow_null=True)
    ip_address = serializers.SerializerMethodField()
    cpus = serializers.IntegerField()
    memory_mib = serializers.IntegerField()
    disk_gib = serializers.IntegerField()
    configuration = ConfigurationOutput(
        help_text="What its host showed after the last change of it; empty before."
    )
    start = serializers.BooleanField()
    priority = serializers.IntegerField()
    share = ReferenceOutput(allow_null=True, help_text="The role on whose share it counts.")
    queue_position = serializers.SerializerMethodField(help_text="Of a pending VM; 1 is next.")
    room_at = serializers.SerializerMethodField(
        help_text="Of a pending VM: when the leases of others make room for it, if nothing changes."
    )
    waits_until = serializers.DateTimeField(
        allow_null=True, help_text="A pending VM is given up then."
    )
    tags = serializers.ListField(child=serializers.CharField())
    lease_seconds = serializers.IntegerField()
    lease_ends_at = serializers.DateTimeField(
        source="lease.ends_at", default=None, allow_null=True, help_text="Null until it runs."
    )
    held_until = serializers.DateTimeField(
        source="lease.held_until",
        default=None,
        allow_null=True,
        help_text="Somebody keeps it for debugging until then: the end of its lease waits.",
    )
    held_reason = serializers.SerializerMethodField()
    job = serializers.UUIDField(
        source="create_job_id", allow_null=True, help_text="The job that makes it."
    )
    requested_by = UserReference(allow_null=True)
    token = ReferenceOutput(allow_null=True)
    created_at = serializers.DateTimeField()
    changed_at = serializers.DateTimeField()
    ended_at = serializers.DateTimeField(allow_null=True)
    receipt = ReceiptOutput(allow_null=True, help_text="Null until it ended and was looked at.")

    def get_host_name(self, vm: VirtualMachine) -> str | None:
        current = getattr(vm, "current_placements", [])  # prefetched
        return current[0].host_name if current else None

    def _place(self, vm: VirtualMachine) -> queue.Place | None:
        if vm.state != State.PENDING:
            return None
        context: dict[str, Any] = self.context  # type: ignore[assignment]
        if "places" not in context:  # read once for a whole list
            context["places"] = queue.places()
        found: queue.Place | None = context["places"].get(vm.pk)
        return found

    def get_queue_position(self, vm: VirtualMachine) -> int | None:
        place = self._place(vm)
        return place.position if place else None

    def get_room_at(self, vm: VirtualMachine) -> datetime | None:
        place = self._place(vm)
        return place.room_at if place else None

    def get_held_reason(self, vm: VirtualMachine) -> str:
        lease = getattr(vm, "lease", None)
        return lease.held_reason if lease else ""

    def get_ip_address(self, vm: VirtualMachine) -> str | None:
        return vm.ip_address or None


class VMInput(Input):
    template = Text(max_length=100, help_text="Id or name.")
    name = Text(max_length=63, required=False)
    cpus = Whole(min_value=1, required=False)
    memory_mib = Whole(min_value=1, required=False)
    disk_gib = Whole(min_value=1, required=False)
    lease_seconds = Whole(min_value=1, required=False)
    priority = Whole(max_value=9, required=False, help_text="9 goes first. Default: 5.")
    maximum_wait_seconds = Whole(
        min_value=1, required=False, help_text="Given up when no host took it by then."
    )
    host = Text(max_length=100, required=False, help_text="Id or name: only on this host.")
    architecture = serializers.ChoiceField(
        Architecture.choices, required=False, help_text="Only on hosts of it."
    )
    host_tags = Texts(required=False, help_text="Only on hosts with any of these tags.")
    tags = Texts(required=False)
    start = Flag(required=False, help_text="Default: as the template says.")


class StopInput(Input):
    force = Flag(required=False, help_text="Do not ask the guest to shut down.")


class ResizeInput(Input):
    cpus = Whole(min_value=1, required=False)
    memory_mib = Whole(min_value=1, required=False)
    disk_gib = Whole(min_value=1, required=False, help_text="A disk only grows.")


class RenameInput(Input):
    name = Text(max_length=63)


class CloneInput(Input):
    name = Text(max_length=63, required=False)
    lease_seconds = Whole(min_value=1, required=False)
    start = Flag(required=False, help_text="Default: as the template says.")


class CloneToTemplateInput(Input):
    name = Text(max_length=100, help_text="Of the template.")
    description = Text(max_length=10_000, required=False, allow_blank=True)


class UploadInput(Input):
    path = Text(max_length=1000, help_text="On the disk of the VM's host.")
    remote_path = Text(max_length=1000, help_text="In the guest.")


class SnapshotOutput(Output):
    """A snapshot, as the VM's host listed it last."""

    id = serializers.UUIDField()
    name = serializers.CharField()
    parent = serializers.UUIDField(  # type: ignore[assignment]
        source="parent_id", allow_null=True, help_text="The one that it was taken after."
    )
    current = serializers.BooleanField()
    with_memory = serializers.BooleanField(
        help_text="Taken while the VM ran: reverting to it makes the VM run."
    )
    taken_at = serializers.CharField(help_text="By the host's own clock, without a zone.")
    seen_at = serializers.DateTimeField(help_text="When the host listed it last.")


class SnapshotInput(Input):
    name = Text(max_length=100, required=False, help_text="Default: a number.")
    description = Text(max_length=1000, required=False, allow_blank=True)


class ExecuteInput(Input):
    command = Text(max_length=32 * 1024, trim_whitespace=False, required=False)
    script = Text(
        max_length=64 * 1024,
        trim_whitespace=False,
        required=False,
        help_text="Instead of a command: what a shell of the guest runs, at most 64 KiB.",
    )
    user = Text(
        max_length=100,
        required=False,
        allow_blank=True,
        help_text="Account in the guest. Default: the one that its tools run as.",
    )
    sudo = Flag(required=False, help_text="Run it as root.")
    environment = Variables(required=False)
    timeout_seconds = Whole(min_value=1, required=False, help_text="Default: 300.")

    def validate(self, attrs: dict[str, Any]) -> dict[str, Any]:
        if ("command" in attrs) == ("script" in attrs):
            raise serializers.ValidationError({"command": ["Give either a command or a script."]})
        return attrs


class ExtendInput(Input):
    lease_seconds = Whole(
        min_value=1, required=False, help_text="From now. Default: as long as first asked for."
    )


class KeepInput(Input):
    reason = Text(max_length=300)
    seconds = Whole(min_value=1, required=False, help_text="Default: as long as is allowed.")


class RejectedOutput(Output):
    """A host that was not taken, and the first rule that it failed."""

    host = serializers.CharField()
    rule = serializers.CharField()
    detail = serializers.CharField()


class AttemptOutput(Output):
    """One attempt to put the VM on a host."""

    id = serializers.UUIDField()
    host = ReferenceOutput()
    host_name = serializers.CharField()
    current = serializers.BooleanField()
    score = serializers.FloatField()
    parts = serializers.SerializerMethodField(help_text="What the score is made of.")
    rejected = serializers.SerializerMethodField()
    rejected_count = serializers.SerializerMethodField()
    doubtful = serializers.BooleanField(source="is_doubtful")
    outcome = serializers.CharField()
    created_at = serializers.DateTimeField()
    closed_at = serializers.DateTimeField(allow_null=True)

    def get_parts(self, placement: Any) -> dict[str, float]:
        return placement.explanation.get("score", {})

    def get_rejected(self, placement: Any) -> list[Rejected]:
        return [
            {name: one.get(name, "") for name in ("host", "rule", "detail")}  # type: ignore[misc]
            for one in placement.explanation.get("rejected", [])
        ]

    def get_rejected_count(self, placement: Any) -> int:
        return placement.explanation.get("rejected_count", 0)


class PlacementOutput(Output):
    """Why the VM is where it is, or why it waits."""

    vm = serializers.UUIDField()
    state = serializers.ChoiceField(State.choices)
    reason = serializers.CharField()
    attempts = AttemptOutput(many=True, help_text="Newest first.")
    why_not = RejectedOutput(
        allow_null=True, help_text="For `?why_not=<host>`; null when it would take the VM now."
    )


class Rejected(TypedDict):
    """A rejected host as an explanation stores it."""

    host: str
    rule: str
    detail: str
