"""VMs that are kept ready, so that whoever asks for one need not wait."""

from __future__ import annotations

from django.db import models
from django.db.models import Q

from orchestrator.db.models import BaseModel
from vms.models.templates import Template

LARGEST = 100


class WarmPool(BaseModel):
    """How many VMs of a template are kept ready, and how often one was."""

    class Kept(models.TextChoices):
        RUNNING = "running", "Running"
        SUSPENDED = "suspended", "Suspended"

    template = models.OneToOneField(Template, on_delete=models.CASCADE, related_name="warm_pool")
    size = models.PositiveSmallIntegerField(default=0)
    kept = models.CharField(max_length=10, choices=Kept.choices, default=Kept.RUNNING)
    # Between these times of day (UTC) none is made. They may span midnight.
    quiet_from = models.TimeField(null=True)
    quiet_until = models.TimeField(null=True)
    hits = models.PositiveIntegerField(default=0)
    misses = models.PositiveIntegerField(default=0)
    counted_since = models.DateTimeField(auto_now_add=True)

    class Meta:
        constraints = [
            models.CheckConstraint(
                condition=Q(quiet_from__isnull=True, quiet_until__isnull=True)
                | Q(quiet_from__isnull=False, quiet_until__isnull=False),
                name="warm_pool_quiet_both",
            ),
            models.CheckConstraint(condition=Q(size__lte=LARGEST), name="warm_pool_not_too_large"),
        ]

    def __str__(self) -> str:
        return f"warm pool of {self.template}"

    @property
    def asked(self) -> int:
        """Return how many requests wanted one."""
        return self.hits + self.misses

    @property
    def hit_rate(self) -> float | None:
        """Return the share of requests that got a VM at once; None before the first."""
        return self.hits / self.asked if self.asked else None
