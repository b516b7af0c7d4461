"""The queue of pending VMs: where they stand, what they may use, and whether it is held."""

from __future__ import annotations

from typing import TYPE_CHECKING

from django.conf import settings
from django.db import models
from django.db.models import Q

from accounts.models import Role
from orchestrator.db.models import BaseModel

if TYPE_CHECKING:
    from accounts.actors import Actor

LIMITS = {"maximum_vms": "VMs", "maximum_cpus": "CPUs", "maximum_memory_mib": "MiB of memory"}


class QueueState(models.Model):
    """The one row about the queue: a hold by a person, and where each VM stood at the last pass."""

    ONLY = 1

    held_at = models.DateTimeField(null=True)
    held_by = models.ForeignKey(
        settings.AUTH_USER_MODEL, on_delete=models.SET_NULL, null=True, related_name="+"
    )
    note = models.CharField(max_length=300, blank=True)
    # In the queue's order: [VM's id, when its host will have room at the latest or null].
    standings = models.JSONField(default=list)

    def __str__(self) -> str:
        return "queue"


class QuotaQuerySet(models.QuerySet["Quota"]):
    def visible_to(self, actor: Actor) -> QuotaQuerySet:
        """Return every quota, or those that bind the actor."""
        if actor.can("accounts.view"):
            return self
        return self.filter(Q(user=actor.user_id) | Q(role__group__user=actor.user_id))

    def for_page(self) -> QuotaQuerySet:
        return self.select_related("user", "role__group")


class Quota(BaseModel):
    """How much an account, or all that counts on a role's share, may have placed at once.

    Empty is no limit. With `borrow` more is allowed while nobody within their quota wants it.
    """

    user = models.ForeignKey(
        settings.AUTH_USER_MODEL, on_delete=models.CASCADE, null=True, related_name="+"
    )
    role = models.ForeignKey(Role, on_delete=models.CASCADE, null=True, related_name="+")
    maximum_vms = models.PositiveIntegerField(null=True)
    maximum_cpus = models.PositiveIntegerField(null=True)
    maximum_memory_mib = models.PositiveIntegerField(null=True)
    borrow = models.BooleanField(default=False)

    objects = QuotaQuerySet.as_manager()

    class Meta:
        constraints = [
            models.CheckConstraint(
                condition=Q(user__isnull=True) ^ Q(role__isnull=True), name="quota_one_subject"
            ),
            models.UniqueConstraint(fields=["user"], name="quota_of_user_once"),
            models.UniqueConstraint(fields=["role"], name="quota_of_role_once"),
        ]

    def __str__(self) -> str:
        return f"quota of {self.subject_name}"

    @property
    def subject_name(self) -> str:
        return self.role.name if self.role else str(self.user)
