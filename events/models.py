from __future__ import annotations

from typing import TYPE_CHECKING

from django.db import models
from django.db.models import Q
from django.db.models.functions import Now

from orchestrator.db.fields import EncryptedTextField
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


class WebhookQuerySet(models.QuerySet["Webhook"]):
    def active(self) -> WebhookQuerySet:
        return self.filter(paused_at=None)


class Webhook(BaseModel):
    """An address that gets events which its owner may see."""

    owner_id = models.UUIDField(db_index=True)
    name = models.CharField(max_length=100)
    url = models.CharField(max_length=500)
    secret = EncryptedTextField()  # signs what is sent; shown once
    # `vm.changed`, or a noun (`vm`) for all of its kinds; empty: all.
    kinds = models.JSONField(default=list)
    cursor = models.BigIntegerField()  # the number of the last event that was looked at
    paused_at = models.DateTimeField(null=True)
    paused_reason = models.CharField(max_length=300, blank=True)

    objects = WebhookQuerySet.as_manager()

    def __str__(self) -> str:
        return self.name

    def wants(self, kind: str) -> bool:
        """Return whether events of this kind go to it; those about webhooks go to none."""
        noun = kind.partition(".")[0]
        return noun != "webhook" and (not self.kinds or kind in self.kinds or noun in self.kinds)


class DeliveryQuerySet(models.QuerySet["Delivery"]):
    def due(self) -> DeliveryQuerySet:
        """Return deliveries that nobody has in work and whose time has come."""
        return self.filter(
            Q(claimed_until=None) | Q(claimed_until__lte=Now()),
            state=Delivery.State.PENDING,
            next_at__lte=Now(),
        ).filter(Q(webhook__paused_at=None) | Q(kind="ping"))


class Delivery(BaseModel):
    """One event on its way to one webhook. Its id is the same at each try."""

    class State(models.TextChoices):
        PENDING = "pending"
        DELIVERED = "delivered"
        FAILED = "failed"

    webhook = models.ForeignKey(Webhook, on_delete=models.CASCADE, related_name="deliveries")
    sequence = models.BigIntegerField(null=True)  # of the event; a test has none
    kind = models.CharField(max_length=60)
    subject = models.CharField(max_length=80)
    body = models.TextField()  # exactly what is signed and sent
    permission = models.CharField(max_length=40, blank=True)
    event_owner_id = models.UUIDField(null=True)
    state = models.CharField(max_length=10, choices=State.choices, default=State.PENDING)
    tries = models.PositiveSmallIntegerField(default=0)
    redelivered = models.PositiveSmallIntegerField(default=0)
    next_at = models.DateTimeField(db_default=Now())
    claim = models.UUIDField(null=True)
    claimed_until = models.DateTimeField(null=True)
    tried_at = models.DateTimeField(null=True)
    status = models.PositiveSmallIntegerField(null=True)
    milliseconds = models.PositiveIntegerField(null=True)
    answer = models.CharField(max_length=500, blank=True)
    problem = models.CharField(max_length=300, blank=True)

    objects = DeliveryQuerySet.as_manager()

    class Meta:
        verbose_name_plural = "deliveries"
        constraints = [
            models.UniqueConstraint(
                fields=["webhook", "sequence"],
                name="delivery_once",
                condition=Q(sequence__isnull=False),
            )
        ]
        indexes = [
            models.Index(fields=["next_at"], name="delivery_due", condition=Q(state="pending")),
            models.Index(fields=["claim"], name="delivery_claim"),
        ]

    def __str__(self) -> str:
        return f"{self.kind} to {self.webhook_id}"
