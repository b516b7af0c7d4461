from __future__ import annotations

from typing import TYPE_CHECKING

from django.db import models
from django.db.models import Q

from orchestrator.db.models import BaseModel

if TYPE_CHECKING:
    from collections.abc import Collection
    from uuid import UUID


class Sequence(models.Model):
    """The last number given to a sealed table, and the last hash of its chain if it has one."""

    name = models.CharField(max_length=40, primary_key=True)
    last = models.BigIntegerField(default=0)
    digest = models.CharField(max_length=64, default="0" * 64)

    def __str__(self) -> str:
        return f"{self.name} {self.last}"


class SealedModel(BaseModel):
    """A row that gets its number after its commit, from the sealer.

    A number given inside the transaction would let a reader's cursor skip late commits.
    """

    sequence = models.BigIntegerField(null=True, unique=True, editable=False)

    class Meta:
        abstract = True


class EventQuerySet(models.QuerySet["Event"]):
    def sealed(self) -> EventQuerySet:
        return self.filter(sequence__isnull=False)

    def after(self, sequence: int) -> EventQuerySet:
        """Return the sealed events behind `sequence`, in order."""
        return self.filter(sequence__gt=sequence).order_by("sequence")

    def readable(self, user_id: UUID, permissions: Collection[str]) -> EventQuerySet:
        """Return what a viewer with these permissions may see: everybody's, or their own."""
        return self.filter(Q(permission__in=permissions) | Q(owner_id=user_id))


class Event(SealedModel):
    """One thing that happened. `subject` names it (`vm:<id>`); `data` holds no secret."""

    kind = models.CharField(max_length=60, db_index=True)
    subject = models.CharField(max_length=80)
    data = models.JSONField(default=dict)
    # Who may see it: those with this permission, and this account.
    permission = models.CharField(max_length=40)
    owner_id = models.UUIDField(null=True)

    objects = EventQuerySet.as_manager()

    class Meta:
        indexes = [
            models.Index(
                fields=["id"], name="event_unsealed", condition=Q(sequence__isnull=True)
            ),  # the sealer asks for these each second
            models.Index(fields=["subject", "sequence"], name="event_subject"),
        ]

    def __str__(self) -> str:
        return f"{self.kind} {self.subject}"
