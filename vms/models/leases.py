"""How long VMs may live."""

from __future__ import annotations

from django.conf import settings
from django.db import models
from django.db.models import Q
from django.db.models.functions import Now
from django.utils import timezone

from vms.models.machines import VirtualMachine


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
