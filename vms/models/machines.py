"""VMs, where they are, and their snapshots."""

from __future__ import annotations

from typing import TYPE_CHECKING

from django.conf import settings
from django.db import models
from django.db.models import Q
from django.db.models.functions import Lower, Now

from catalog.models import Image
from hosts.capacity import Size
from hosts.models import Health, Host
from orchestrator.db.ids import mark
from orchestrator.db.models import BaseModel
from vms.models.pools import WarmPool
from vms.models.templates import Grant, Template
from vms.states import State

if TYPE_CHECKING:
    from accounts.actors import Actor
    from vms.models.residue import Receipt


class VirtualMachineQuerySet(models.QuerySet["VirtualMachine"]):
    def open(self) -> VirtualMachineQuerySet:
        """Return VMs that are not final."""
        return self.exclude(state__in=State.final())

    def pending(self) -> VirtualMachineQuerySet:
        """Return VMs that wait for a host."""
        return self.filter(state=State.PENDING)

    def placed(self) -> VirtualMachineQuerySet:
        """Return VMs that have a host's room, or may have it still: those that quotas count."""
        return self.open().exclude(state=State.PENDING)

    def visible_to(self, actor: Actor) -> VirtualMachineQuerySet:
        vms = self
        if actor.token and actor.token.templates is not None:
            vms = vms.filter(template__in=actor.token.templates)
        if actor.can("vms.view_all"):
            return vms
        mine = Q(requested_by=actor.user_id)
        if actor.can("vms.view_roles"):
            mine |= Q(share__in=actor.role_ids)
        return vms.filter(mine)

    def for_page(self) -> VirtualMachineQuerySet:
        """Return VMs with what a list shows of them."""
        return self.select_related(
            "template",
            "requested_by",
            "token",
            "host__status",
            "lease__held_by",
            "create_job",
            "share__group",
        )


class VirtualMachine(BaseModel):
    """One VM, from request to the proof that it is gone."""

    name = models.CharField(max_length=63)
    template = models.ForeignKey(Template, on_delete=models.PROTECT, related_name="vms")
    grant = models.ForeignKey(
        Grant, on_delete=models.SET_NULL, null=True, blank=True, related_name="+"
    )
    token = models.ForeignKey(
        "accounts.ApiToken", on_delete=models.SET_NULL, null=True, blank=True, related_name="+"
    )
    requested_by = models.ForeignKey(
        settings.AUTH_USER_MODEL,
        on_delete=models.SET_NULL,
        null=True,
        blank=True,
        related_name="vms",
    )
    create_job = models.ForeignKey(
        "jobs.Job", on_delete=models.SET_NULL, null=True, blank=True, related_name="+"
    )
    tags = models.JSONField(default=list)
    # Intent: what was asked for. Written by people and leases only.
    cpus = models.PositiveSmallIntegerField()
    memory_mib = models.PositiveIntegerField()
    disk_gib = models.PositiveIntegerField()
    start = models.BooleanField(default=True)
    lease_seconds = models.PositiveIntegerField()
    priority = models.PositiveSmallIntegerField(default=5)
    # The role on whose share of the pool it counts: its grant's, or the account's heaviest.
    share = models.ForeignKey(
        "accounts.Role", on_delete=models.SET_NULL, null=True, blank=True, related_name="+"
    )
    waits_until = models.DateTimeField(null=True)  # given up when no host took it by then
    # Kept ready for whoever asks; nobody's until then. What it was made from tells it is stale.
    pool = models.ForeignKey(
        WarmPool, on_delete=models.SET_NULL, null=True, blank=True, related_name="vms"
    )
    made_from = models.CharField(max_length=64, blank=True)
    # The name on hosts of the VM that it is a clone of: its template's, or one that was picked.
    clone_of = models.CharField(max_length=200, blank=True)
    wanted_host = models.ForeignKey(
        Host, on_delete=models.SET_NULL, null=True, blank=True, related_name="+"
    )
    # Where else than its template says: on a host of this architecture, with any of these tags.
    wanted_architecture = models.CharField(max_length=10, blank=True)
    wanted_tags = models.JSONField(default=list)
    # What was set of it beside its size, as its host showed it after the last change of that:
    # "options" by flag, "folders" by name, whether "devices" are connected (vms.configuration).
    configuration = models.JSONField(default=dict, blank=True)
    desired_state = models.CharField(max_length=12, default="running")
    # Life: moved by vms.lifecycle only.
    state = models.CharField(max_length=12, choices=State.choices, default=State.PENDING)
    changed_at = models.DateTimeField(db_default=Now())
    reason = models.CharField(max_length=500, blank=True)  # why pending, why ended
    problem = models.CharField(max_length=500, blank=True)  # what went wrong while it exists
    ended_at = models.DateTimeField(null=True, blank=True)
    host = models.ForeignKey(
        Host, on_delete=models.SET_NULL, null=True, blank=True, related_name="vms"
    )
    # Observation: what the host said last, in its words.
    observed_state = models.CharField(max_length=30, blank=True)
    observed_at = models.DateTimeField(null=True, blank=True)
    ip_address = models.CharField(max_length=60, blank=True)
    missing_since = models.DateTimeField(null=True, blank=True)

    objects = VirtualMachineQuerySet.as_manager()

    class Meta:
        constraints = [
            models.UniqueConstraint(
                Lower("name"),
                name="vm_name_unique",
                condition=~Q(state__in=["deleted", "failed", "cancelled", "forgotten"]),
            )
        ]
        indexes = [
            models.Index(fields=["-priority", "id"], name="vm_queue", condition=Q(state="pending")),
            models.Index(fields=["requested_by", "-id"], name="vm_owner"),
        ]

    def __str__(self) -> str:
        return self.name

    @property
    def is_final(self) -> bool:
        return self.state in State.final()

    @property
    def is_unknown(self) -> bool:
        """Return whether the state cannot be known now: its host does not answer."""
        return bool(
            not self.is_final and self.host and self.host.status.health == Health.UNREACHABLE
        )

    @property
    def receipt(self) -> Receipt | None:
        """The receipt of where it was last; a query unless `ended_placements` are prefetched."""
        ended = getattr(self, "ended_placements", None)
        if ended is None:
            ended = self.placements.ended()[:1]
        return ended[0].receipt if ended else None

    @property
    def subject(self) -> str:
        return f"vm:{self.pk}"

    @property
    def lane(self) -> str:
        return self.host.lane if self.host else ""


class PlacementQuerySet(models.QuerySet["Placement"]):
    def open(self) -> PlacementQuerySet:
        """Return placements that hold a charge."""
        return self.filter(closed_at=None)

    def ended(self) -> PlacementQuerySet:
        """Return placements whose receipt is written, newest first, with it and what is left."""
        return (
            self.filter(receipt__checked_at__isnull=False)
            .select_related("receipt")
            .prefetch_related("receipt__residues__job")
            .order_by("-id")
        )


class Placement(BaseModel):
    """One attempt to put a VM on a host, and the charge. Its id is the host's job id."""

    vm = models.ForeignKey(VirtualMachine, on_delete=models.CASCADE, related_name="placements")
    host = models.ForeignKey(Host, on_delete=models.PROTECT, related_name="placements")
    image = models.ForeignKey(Image, on_delete=models.PROTECT, null=True, related_name="+")
    mark = models.CharField(max_length=16, unique=True, default=mark)
    host_name = models.CharField(max_length=200)  # the VM's name on the host: <slug>-<mark>
    host_vm_id = models.CharField(max_length=255, blank=True)
    # Its name on the host without our mark: of a VM that was adopted, or is being let go. With it
    # the VM is matched by its id on the host, whatever it is called there.
    plain_name = models.CharField(max_length=200, blank=True)
    current = models.BooleanField(default=True)
    score = models.FloatField(default=0)
    explanation = models.JSONField(default=dict)
    cpus = models.PositiveIntegerField()
    memory_mib = models.PositiveIntegerField()
    disk_gib = models.PositiveIntegerField()
    macos_slots = models.PositiveSmallIntegerField(default=0)
    create_sent_at = models.DateTimeField(null=True, blank=True)
    doubtful_since = models.DateTimeField(null=True, blank=True)
    abandoned_at = models.DateTimeField(null=True, blank=True)
    delete_acknowledged_at = models.DateTimeField(null=True, blank=True)
    let_go_at = models.DateTimeField(null=True, blank=True)  # foreign since: never deleted by us
    closed_at = models.DateTimeField(null=True, blank=True)
    failed = models.BooleanField(default=False)  # the host's fault: counts against its score
    outcome = models.CharField(max_length=300, blank=True)
    # It was let in before an earlier request, which has its room from then on: while that waits,
    # the lease ends by then.
    yields_to = models.ForeignKey(
        VirtualMachine, on_delete=models.SET_NULL, null=True, related_name="+"
    )
    yields_at = models.DateTimeField(null=True)

    objects = PlacementQuerySet.as_manager()

    class Meta:
        constraints = [
            models.UniqueConstraint(
                fields=["vm"], name="placement_one_current", condition=Q(current=True)
            )
        ]
        indexes = [
            models.Index(
                fields=["host"], name="placement_open", condition=Q(closed_at__isnull=True)
            )
        ]

    def __str__(self) -> str:
        return f"{self.host_name} on {self.host_id}"

    @property
    def size(self) -> Size:
        return Size(self.cpus, self.memory_mib, self.disk_gib, self.macos_slots)

    @property
    def is_doubtful(self) -> bool:
        """Return whether nobody knows if the VM came into being."""
        return self.doubtful_since is not None and not self.host_vm_id


class Snapshot(BaseModel):
    """A snapshot of a VM, as its host listed it last."""

    vm = models.ForeignKey(VirtualMachine, on_delete=models.CASCADE, related_name="snapshots")
    host_snapshot_id = models.CharField(max_length=100)
    parent = models.ForeignKey(
        "self", on_delete=models.SET_NULL, null=True, related_name="children"
    )
    name = models.CharField(max_length=200)
    taken_at = models.CharField(max_length=40, blank=True)  # the host's own time, without a zone
    with_memory = models.BooleanField()  # taken while it ran: reverting makes it run
    current = models.BooleanField()
    seen_at = models.DateTimeField()

    class Meta:
        constraints = [
            models.UniqueConstraint(fields=["vm", "host_snapshot_id"], name="snapshot_once")
        ]

    def __str__(self) -> str:
        return self.name
