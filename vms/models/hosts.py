"""What becomes of the VMs of a host that is emptied, or that fails to make them."""

from __future__ import annotations

from django.db import models

from orchestrator.db.models import BaseModel
from vms.models.machines import Placement


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
