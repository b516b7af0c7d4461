from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING

from django.conf import settings
from django.db import models
from django.db.models import Exists, F, OuterRef, Prefetch, Q
from django.db.models.functions import Lower, Now
from django.utils import timezone

from hosts.drivers.base import Connection
from orchestrator.db.fields import EncryptedTextField
from orchestrator.db.models import BaseModel

if TYPE_CHECKING:
    from accounts.actors import Actor


# How far our clock may be behind the database's before a live watch looks dead.
WATCH_GRACE = timedelta(seconds=5)


class Health(models.TextChoices):
    NEW = "new"
    HEALTHY = "healthy"
    DEGRADED = "degraded"  # answers, but a check fails
    UNREACHABLE = "unreachable"


class Architecture(models.TextChoices):
    ARM64 = "arm64", "arm64"
    X86_64 = "x86_64", "x86_64"


class HostQuerySet(models.QuerySet["Host"]):
    def present(self) -> HostQuerySet:
        return self.filter(removed_at=None)

    def visible_to(self, actor: Actor) -> HostQuerySet:
        return self.present() if actor.can("hosts.view") else self.none()

    def polled(self) -> HostQuerySet:
        """Return hosts that are watched: present and not disabled."""
        return self.present().exclude(
            Exists(HostHold.objects.live().filter(host=OuterRef("pk"), kind="disable"))
        )

    def taking_vms(self) -> HostQuerySet:
        """Return hosts that may get a VM: healthy, without any hold."""
        return self.present().filter(
            ~Exists(HostHold.objects.live().filter(host=OuterRef("pk"))),
            status__health=Health.HEALTHY,
        )

    def for_page(self) -> HostQuerySet:
        """Return hosts with what a list shows of them."""
        return self.select_related("status", "capacity", "watch").prefetch_related(
            Prefetch("holds", HostHold.objects.live().select_related("by"), to_attr="live_holds")
        )


class Host(BaseModel):
    """One machine of the pool."""

    class Driver(models.TextChoices):
        PARALLELS = "parallels"

    name = models.CharField(max_length=100)
    url = models.URLField(max_length=300)  # normalised by hosts.drivers.base.normalise_url
    driver = models.CharField(max_length=20, choices=Driver.choices, default=Driver.PARALLELS)
    username = models.CharField(max_length=200, blank=True)
    password = EncryptedTextField(blank=True)
    api_key = EncryptedTextField(blank=True)
    tls_fingerprint = models.CharField(max_length=95, blank=True)  # pinned SHA-256, AA:BB:…
    hardware_id = models.CharField(max_length=100, blank=True)
    tags = models.JSONField(default=list)
    added_by = models.ForeignKey(
        settings.AUTH_USER_MODEL, on_delete=models.SET_NULL, null=True, related_name="+"
    )
    removed_at = models.DateTimeField(null=True)

    objects = HostQuerySet.as_manager()

    class Meta:
        constraints = [
            models.UniqueConstraint(
                "url", name="host_url_unique", condition=Q(removed_at__isnull=True)
            ),
            models.UniqueConstraint(
                Lower("name"), name="host_name_unique", condition=Q(removed_at__isnull=True)
            ),
        ]

    def __str__(self) -> str:
        return self.name

    @property
    def connection(self) -> Connection:
        """Return how to reach the host, with its credentials: for a driver, for one call."""
        return Connection(
            url=self.url,
            username=self.username,
            password=self.password,
            api_key=self.api_key,
            tls_fingerprint=self.tls_fingerprint,
        )

    @property
    def subject(self) -> str:
        return f"host:{self.pk}"

    @property
    def lane(self) -> str:
        """Return the lane that limits how many calls to this host are open."""
        return f"host:{self.pk}"


class EnrolmentTokenQuerySet(models.QuerySet["EnrolmentToken"]):
    def live(self) -> EnrolmentTokenQuerySet:
        """Return tokens that enrol a host still, by the database's clock."""
        return self.filter(used_at=None, revoked_at=None, expires_at__gt=Now())

    def visible_to(self, actor: Actor) -> EnrolmentTokenQuerySet:
        return self.all() if actor.can("hosts.manage") else self.none()


class EnrolmentToken(BaseModel):
    """Lets one host of a given name enrol itself, once, by the right of the account that made it.

    Only a digest is kept. What revokes that account, or the API token that it used, ends this too.
    """

    host_name = models.CharField(max_length=100)
    digest = models.CharField(max_length=64, unique=True)
    expires_at = models.DateTimeField()
    created_by = models.ForeignKey(
        settings.AUTH_USER_MODEL, on_delete=models.CASCADE, related_name="+"
    )
    api_token = models.ForeignKey(
        "accounts.ApiToken", on_delete=models.CASCADE, null=True, related_name="+"
    )
    used_at = models.DateTimeField(null=True)
    host = models.ForeignKey(Host, on_delete=models.SET_NULL, null=True, related_name="+")
    revoked_at = models.DateTimeField(null=True)

    STATES = ("live", "used", "revoked", "expired")

    objects = EnrolmentTokenQuerySet.as_manager()

    def __str__(self) -> str:
        return self.host_name

    @property
    def state(self) -> str:
        """Return one of `STATES`."""
        if self.used_at:
            return "used"
        if self.revoked_at:
            return "revoked"
        return "live" if self.expires_at > timezone.now() else "expired"


class HostHoldQuerySet(models.QuerySet["HostHold"]):
    def live(self) -> HostHoldQuerySet:
        """Return holds that are in force now, by the database's clock."""
        begun = Q(starts_at=None) | Q(starts_at__lte=Now())
        return self.filter(begun, Q(until=None) | Q(until__gt=Now()), ended_at=None)

    def planned(self) -> HostHoldQuerySet:
        """Return windows that are still to come."""
        return self.filter(starts_at__gt=Now(), ended_at=None)


class HostHold(BaseModel):
    """A reason not to use a host. Ending one never ends another."""

    class Kind(models.TextChoices):
        CORDON = "cordon"
        DRAIN = "drain"
        DISABLE = "disable"  # also stops polling
        MAINTENANCE = "maintenance"
        QUARANTINE = "quarantine"

    host = models.ForeignKey(Host, on_delete=models.CASCADE, related_name="holds")
    kind = models.CharField(max_length=12, choices=Kind.choices)
    reason = models.CharField(max_length=300)
    by = models.ForeignKey(
        settings.AUTH_USER_MODEL, on_delete=models.SET_NULL, null=True, related_name="+"
    )
    starts_at = models.DateTimeField(null=True)  # of a window; null: at once
    begun_at = models.DateTimeField(null=True)  # when its beginning was told
    until = models.DateTimeField(null=True)
    ended_at = models.DateTimeField(null=True)

    objects = HostHoldQuerySet.as_manager()

    class Meta:
        constraints = [
            # There may be any number of windows.
            models.UniqueConstraint(
                fields=["host", "kind"],
                name="hold_once",
                condition=Q(ended_at__isnull=True) & ~Q(kind="maintenance"),
            )
        ]

    def __str__(self) -> str:
        return f"{self.kind}: {self.reason}"


class HostStatus(models.Model):
    """What was last observed of a host. Written by polling only. Times are the database's."""

    host = models.OneToOneField(
        Host, on_delete=models.CASCADE, primary_key=True, related_name="status"
    )
    health = models.CharField(max_length=12, choices=Health.choices, default=Health.NEW)
    reason = models.CharField(max_length=300, blank=True)
    changed_at = models.DateTimeField(null=True)
    last_seen_at = models.DateTimeField(null=True)
    latency_ms = models.FloatField(null=True)
    failures = models.PositiveIntegerField(default=0)  # in a row
    successes = models.PositiveIntegerField(default=0)  # in a row
    failing = models.CharField(max_length=10, blank=True)  # how: a word of hosts.health.Sign
    architecture = models.CharField(max_length=10, choices=Architecture.choices, blank=True)
    cpu_brand = models.CharField(max_length=100, blank=True)
    os_name = models.CharField(max_length=50, blank=True)
    os_version = models.CharField(max_length=50, blank=True)
    devops_version = models.CharField(max_length=50, blank=True)
    desktop_version = models.CharField(max_length=50, blank=True)
    clock_offset_seconds = models.FloatField(null=True)
    inventory_at = models.DateTimeField(null=True)  # when the last complete list began
    inventory_problem = models.CharField(max_length=300, blank=True)
    inventory_failures = models.PositiveIntegerField(default=0)  # in a row
    # When a list without any VM began that does not count yet, because the one before had some.
    empty_since = models.DateTimeField(null=True)
    # When the poller has to look next, and which tick has the host in work until when.
    next_poll_at = models.DateTimeField(db_default=Now(), db_index=True)
    inventory_due_at = models.DateTimeField(db_default=Now())
    poll_claim = models.UUIDField(null=True, db_index=True)
    poll_until = models.DateTimeField(null=True)

    class Meta:
        verbose_name_plural = "host statuses"

    def __str__(self) -> str:
        return f"{self.host_id} {self.health}"


class HostWatchQuerySet(models.QuerySet["HostWatch"]):
    def free(self) -> HostWatchQuerySet:
        """Return hosts that no watcher holds, or whose watcher let its lease run out."""
        return self.filter(Q(holder=None) | Q(held_until__lte=Now()))


class HostWatch(models.Model):
    """Who follows a host's own events, and whether they come in. Written by watchers only."""

    host = models.OneToOneField(
        Host, on_delete=models.CASCADE, primary_key=True, related_name="watch"
    )
    holder = models.UUIDField(null=True)
    held_until = models.DateTimeField(null=True)
    live_since = models.DateTimeField(null=True)  # null: no event comes in now
    lost_at = models.DateTimeField(null=True)
    problem = models.CharField(max_length=300, blank=True)

    objects = HostWatchQuerySet.as_manager()

    class Meta:
        verbose_name_plural = "host watches"
        indexes = [models.Index(fields=["holder"], name="watch_holder")]

    def __str__(self) -> str:
        return f"{self.host_id} {'live' if self.live_since else 'not live'}"

    @property
    def is_live(self) -> bool:
        """Return whether events come in now, as far as the watcher's lease tells."""
        return bool(
            self.live_since and self.held_until and self.held_until > timezone.now() - WATCH_GRACE
        )


class HostHealthChange(models.Model):
    """One line of a host's health history."""

    host = models.ForeignKey(Host, on_delete=models.CASCADE, related_name="health_changes")
    at = models.DateTimeField(db_default=Now())
    health = models.CharField(max_length=12, choices=Health.choices)
    reason = models.CharField(max_length=300, blank=True)

    class Meta:
        indexes = [models.Index(fields=["host", "-id"], name="health_history")]

    def __str__(self) -> str:
        return f"{self.host_id} {self.health}"


RESOURCES = ("cpus", "memory_mib", "disk_gib", "macos_slots")


def _fits(resource: str) -> Q:
    return Q(
        **{
            f"{resource}_total__gte": F(f"{resource}_charged")
            + F(f"{resource}_foreign")
            + F(f"{resource}_reserved")
        }
    )


class HostCapacity(models.Model):
    """What a host has and who uses it: one row per host, the last line against over-booking.

    `charged` is moved only by hosts.capacity; total, reserved, foreign and `overcommitted` only by
    the observer, in one statement. When a VM changes hands, hosts.ownership writes foreign anew.
    """

    host = models.OneToOneField(
        Host, on_delete=models.CASCADE, primary_key=True, related_name="capacity"
    )
    cpus_total = models.PositiveIntegerField(default=0)
    cpus_reserved = models.PositiveIntegerField(default=0)
    cpus_foreign = models.PositiveIntegerField(default=0)
    cpus_charged = models.IntegerField(default=0)
    memory_mib_total = models.PositiveIntegerField(default=0)
    memory_mib_reserved = models.PositiveIntegerField(default=0)
    memory_mib_foreign = models.PositiveIntegerField(default=0)
    memory_mib_charged = models.IntegerField(default=0)
    disk_gib_total = models.PositiveIntegerField(default=0)
    disk_gib_reserved = models.PositiveIntegerField(default=0)
    disk_gib_foreign = models.PositiveIntegerField(default=0)
    disk_gib_charged = models.IntegerField(default=0)
    macos_slots_total = models.PositiveIntegerField(default=0)
    macos_slots_reserved = models.PositiveIntegerField(default=0)
    macos_slots_foreign = models.PositiveIntegerField(default=0)
    macos_slots_charged = models.IntegerField(default=0)
    overcommitted = models.BooleanField(default=False)
    disk_gib_free = models.PositiveIntegerField(default=0)  # as the host said last
    shared_volume = models.BooleanField(null=True)  # VM home and cache on one volume

    class Meta:
        verbose_name_plural = "host capacities"
        constraints = [
            *(
                models.CheckConstraint(
                    condition=Q(overcommitted=True) | _fits(resource),
                    name=f"capacity_{resource}_fits",
                )
                for resource in RESOURCES
            ),
            *(
                models.CheckConstraint(
                    condition=Q(**{f"{resource}_charged__gte": 0}),
                    name=f"capacity_{resource}_charged_positive",
                )
                for resource in RESOURCES
            ),
        ]

    def __str__(self) -> str:
        return f"capacity of {self.host_id}"

    def free(self, resource: str) -> int:
        """Return how much of `resource` could be charged now (negative when over-committed)."""
        return (
            getattr(self, f"{resource}_total")
            - getattr(self, f"{resource}_reserved")
            - getattr(self, f"{resource}_foreign")
            - getattr(self, f"{resource}_charged")
        )


class HostVM(models.Model):
    """One VM as a host listed it, in the host's words. Written by observation only."""

    host = models.ForeignKey(Host, on_delete=models.CASCADE, related_name="listed_vms")
    host_vm_id = models.CharField(max_length=255)
    name = models.CharField(max_length=300)
    state = models.CharField(max_length=30)
    type = models.CharField(max_length=10)
    os = models.CharField(max_length=100, blank=True)
    cpus = models.PositiveIntegerField(default=0)
    memory_mib = models.PositiveIntegerField(default=0)
    disk_gib = models.PositiveIntegerField(default=0)
    ip_address = models.CharField(max_length=60, blank=True)
    home = models.CharField(max_length=1024, blank=True)  # the folder of its files
    # Claimed by an open Placement of ours; everything else is foreign and counts against capacity.
    # Also written by hosts.ownership, when a VM changes hands between two lists.
    claimed = models.BooleanField(default=False)
    seen_at = models.DateTimeField()

    class Meta:
        constraints = [models.UniqueConstraint(fields=["host", "host_vm_id"], name="listed_once")]
        indexes = [
            models.Index(fields=["name"], name="listed_name"),
            models.Index(fields=["host_vm_id"], name="listed_id"),  # the same one on two hosts
        ]

    def __str__(self) -> str:
        return self.name
