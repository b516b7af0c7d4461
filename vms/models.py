from __future__ import annotations

from typing import TYPE_CHECKING

from django.conf import settings
from django.db import models
from django.db.models import Exists, OuterRef, Q
from django.db.models.functions import Lower, Now
from django.utils import timezone

from catalog.models import Image
from hosts.capacity import Size
from hosts.models import Health, Host
from orchestrator.db.ids import mark
from orchestrator.db.models import BaseModel
from vms.states import State

if TYPE_CHECKING:
    from uuid import UUID

    from accounts.actors import Actor


class LeaseEnd(models.TextChoices):
    DELETE = "delete"
    STOP = "stop"
    SUSPEND = "suspend"


class TemplateQuerySet(models.QuerySet["Template"]):
    def live(self) -> TemplateQuerySet:
        return self.filter(revoked_at=None)

    def visible_to(self, actor: Actor) -> TemplateQuerySet:
        """Return templates that the actor may see: all, or those ever granted to them."""
        if actor.can("templates.view_all"):
            return self
        granted = Grant.objects.for_user(actor.user_id).filter(template=OuterRef("pk"))
        return self.filter(Exists(granted))


class Template(BaseModel):
    """What a pipeline asks for: an image or a VM to clone, a size, and defaults."""

    class OS(models.TextChoices):
        MACOS = "macos", "macOS"
        LINUX = "linux", "Linux"
        WINDOWS = "windows", "Windows"
        OTHER = "other", "Other"

    name = models.CharField(max_length=100)
    description = models.TextField(blank=True)
    images = models.ManyToManyField(Image, related_name="templates")
    clone_of = models.CharField(max_length=200, blank=True)  # the name of a VM on hosts
    os = models.CharField(max_length=10, choices=OS.choices, default=OS.OTHER)
    cpus = models.PositiveSmallIntegerField()
    memory_mib = models.PositiveIntegerField()
    disk_gib = models.PositiveIntegerField()
    host_tags = models.JSONField(default=list)
    start = models.BooleanField(default=True)
    default_lease_seconds = models.PositiveIntegerField()
    maximum_lease_seconds = models.PositiveIntegerField()
    lease_end = models.CharField(max_length=10, choices=LeaseEnd.choices, default=LeaseEnd.DELETE)
    owner = models.ForeignKey(
        settings.AUTH_USER_MODEL, on_delete=models.SET_NULL, null=True, blank=True, related_name="+"
    )
    revoked_at = models.DateTimeField(null=True, blank=True)
    updated_at = models.DateTimeField(auto_now=True)

    objects = TemplateQuerySet.as_manager()

    class Meta:
        constraints = [
            models.UniqueConstraint(
                Lower("name"),
                name="template_name_unique",
                violation_error_message="A template of this name exists. Choose another name.",
            )
        ]

    def __str__(self) -> str:
        return self.name


class GrantQuerySet(models.QuerySet["Grant"]):
    def live(self) -> GrantQuerySet:
        """Return grants that hold now, by the database's clock."""
        return self.filter(Q(expires_at=None) | Q(expires_at__gt=Now()), revoked_at=None)

    def for_user(self, user_id: UUID | None) -> GrantQuerySet:
        """Return the account's direct grants and those of its roles."""
        return self.filter(Q(user=user_id) | Q(role__group__user=user_id)).distinct()

    def managing(self) -> GrantQuerySet:
        return self.filter(level=Grant.Level.MANAGE)

    def visible_to(self, actor: Actor) -> GrantQuerySet:
        """Return grants that concern the actor: all, one's own, and of templates one manages."""
        if actor.can("templates.view_all"):
            return self
        managed = Grant.objects.live().managing().for_user(actor.user_id).values("template")
        own = Grant.objects.for_user(actor.user_id).values("pk")
        return self.filter(Q(pk__in=own) | Q(template__in=managed))

    def for_page(self) -> GrantQuerySet:
        return self.select_related("template", "user", "role__group", "created_by")


class Grant(BaseModel):
    """Who may use a template: an account or a role, at a level, within limits, until an end."""

    class Level(models.TextChoices):
        USE = "use"
        MANAGE = "manage"  # use, change the template, and grant it

    template = models.ForeignKey(Template, on_delete=models.CASCADE, related_name="grants")
    user = models.ForeignKey(
        settings.AUTH_USER_MODEL,
        on_delete=models.CASCADE,
        null=True,
        blank=True,
        related_name="grants",
    )
    role = models.ForeignKey(
        "accounts.Role", on_delete=models.CASCADE, null=True, blank=True, related_name="grants"
    )
    level = models.CharField(max_length=10, choices=Level.choices, default=Level.USE)
    # Limits are shared by the members of a role. `vms` counts those that are not final.
    maximum_vms = models.PositiveIntegerField(null=True, blank=True)
    vms = models.PositiveIntegerField(default=0)
    maximum_lease_seconds = models.PositiveIntegerField(null=True, blank=True)
    expires_at = models.DateTimeField(null=True, blank=True)
    expiry_applied = models.BooleanField(default=False)
    revoked_at = models.DateTimeField(null=True, blank=True)
    created_by = models.ForeignKey(
        settings.AUTH_USER_MODEL, on_delete=models.SET_NULL, null=True, blank=True, related_name="+"
    )

    objects = GrantQuerySet.as_manager()

    class Meta:
        constraints = [
            models.CheckConstraint(
                condition=Q(user__isnull=False, role__isnull=True)
                | Q(user__isnull=True, role__isnull=False),
                name="grant_one_subject",
            )
        ]

    def __str__(self) -> str:
        return f"{self.template} → {self.subject_name}"

    @property
    def subject_name(self) -> str:
        return self.user.username if self.user else f"role {self.role}"


class VirtualMachineQuerySet(models.QuerySet["VirtualMachine"]):
    def open(self) -> VirtualMachineQuerySet:
        """Return VMs that are not final."""
        return self.exclude(state__in=State.final())

    def pending(self) -> VirtualMachineQuerySet:
        """Return VMs that wait for a host, in the queue's order."""
        return self.filter(state=State.PENDING).order_by("-priority", "id")

    def visible_to(self, actor: Actor) -> VirtualMachineQuerySet:
        vms = self
        if actor.token and actor.token.templates is not None:
            vms = vms.filter(template__in=actor.token.templates)
        return vms if actor.can("vms.view_all") else vms.filter(requested_by=actor.user_id)

    def for_page(self) -> VirtualMachineQuerySet:
        """Return VMs with what a list shows of them."""
        return self.select_related(
            "template", "requested_by", "token", "host__status", "lease__held_by", "create_job"
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
    # The name on hosts of the VM that it is a clone of: its template's, or one that was picked.
    clone_of = models.CharField(max_length=200, blank=True)
    wanted_host = models.ForeignKey(
        Host, on_delete=models.SET_NULL, null=True, blank=True, related_name="+"
    )
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
    def subject(self) -> str:
        return f"vm:{self.pk}"

    @property
    def lane(self) -> str:
        return self.host.lane if self.host else ""


class PlacementQuerySet(models.QuerySet["Placement"]):
    def open(self) -> PlacementQuerySet:
        """Return placements that hold a charge."""
        return self.filter(closed_at=None)


class Placement(BaseModel):
    """One attempt to put a VM on a host, and the charge. Its id is the host's job id."""

    vm = models.ForeignKey(VirtualMachine, on_delete=models.CASCADE, related_name="placements")
    host = models.ForeignKey(Host, on_delete=models.PROTECT, related_name="placements")
    image = models.ForeignKey(Image, on_delete=models.PROTECT, null=True, related_name="+")
    mark = models.CharField(max_length=16, unique=True, default=mark)
    host_name = models.CharField(max_length=100)  # the VM's name on the host: <slug>-<mark>
    host_vm_id = models.CharField(max_length=100, blank=True)
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
    closed_at = models.DateTimeField(null=True, blank=True)
    failed = models.BooleanField(default=False)  # the host's fault: counts against its score
    outcome = models.CharField(max_length=300, blank=True)

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


class Drain(BaseModel):
    """A host being emptied. Its hold keeps new VMs away; this says what becomes of those there."""

    class Policy(models.TextChoices):
        WAIT = "wait", "Wait until their leases end"
        STOP = "stop", "Stop them"
        DELETE = "delete", "Delete them"

    hold = models.OneToOneField("hosts.HostHold", on_delete=models.CASCADE, related_name="drain")
    policy = models.CharField(max_length=10, choices=Policy.choices)
    deadline = models.DateTimeField(null=True)  # null: the policy acts at once
    acted_at = models.DateTimeField(null=True)
    drained_at = models.DateTimeField(null=True)
    vms_at_start = models.PositiveIntegerField()

    def __str__(self) -> str:
        return f"{self.hold} ({self.policy})"


class QuarantineQuerySet(models.QuerySet["Quarantine"]):
    def untried(self) -> QuarantineQuerySet:
        """Return those that no VM is trying, as `is_tried` tells it of one."""
        return self.exclude(
            probation__isnull=False,
            probation__closed_at__isnull=True,
            probation__abandoned_at__isnull=True,
        )


class Quarantine(BaseModel):
    """A host that fails to make VMs: one VM may try it again from time to time."""

    hold = models.OneToOneField(
        "hosts.HostHold", on_delete=models.CASCADE, related_name="quarantine"
    )
    tries = models.PositiveSmallIntegerField(default=0)  # probation VMs that failed, too
    probation_at = models.DateTimeField()  # from when the next one may come
    probation = models.OneToOneField(
        Placement, on_delete=models.SET_NULL, null=True, related_name="probation_of"
    )

    objects = QuarantineQuerySet.as_manager()

    def __str__(self) -> str:
        return str(self.hold)

    @property
    def is_tried(self) -> bool:
        """Return whether a VM tries the host now. One that was cancelled or moved away does not."""
        placement = self.probation
        return bool(placement and not placement.closed_at and not placement.abandoned_at)


class LeaseQuerySet(models.QuerySet["Lease"]):
    def ended(self) -> LeaseQuerySet:
        """Return leases whose time is over, that nobody holds, and whose end was not acted on."""
        return self.filter(ends_at__lte=Now(), acted_at=None).exclude(held_until__gt=Now())

    def ending(self) -> LeaseQuerySet:
        """Return leases whose end is near and was not told yet."""
        return self.filter(
            warn_at__lte=Now(), ends_at__gt=Now(), warned_at=None, acted_at=None
        ).exclude(held_until__gt=Now())

    def held(self) -> LeaseQuerySet:
        """Return leases of VMs that somebody keeps for debugging."""
        return self.filter(held_until__gt=Now(), acted_at=None)


class Lease(models.Model):
    """How long a VM may live. It starts when the VM runs and runs on while it is stopped."""

    vm = models.OneToOneField(
        VirtualMachine, on_delete=models.CASCADE, primary_key=True, related_name="lease"
    )
    started_at = models.DateTimeField()
    ends_at = models.DateTimeField()
    acted_at = models.DateTimeField(null=True, blank=True)
    warn_at = models.DateTimeField(null=True)  # when its end is near enough to be told
    warned_at = models.DateTimeField(null=True)
    # Somebody keeps the VM for debugging: until then the end of the lease does not take it.
    held_until = models.DateTimeField(null=True)
    held_by = models.ForeignKey(
        settings.AUTH_USER_MODEL, on_delete=models.SET_NULL, null=True, related_name="held_leases"
    )
    held_reason = models.CharField(max_length=300, blank=True)

    objects = LeaseQuerySet.as_manager()

    class Meta:
        indexes = [
            models.Index(
                fields=["ends_at"], name="lease_ending", condition=Q(acted_at__isnull=True)
            ),
            models.Index(
                fields=["warn_at"],
                name="lease_warning",
                condition=Q(acted_at__isnull=True, warned_at__isnull=True),
            ),
        ]

    def __str__(self) -> str:
        return f"{self.vm_id} until {self.ends_at}"

    @property
    def is_held(self) -> bool:
        return self.held_until is not None and self.held_until > timezone.now()
