from __future__ import annotations

from typing import TYPE_CHECKING

from django.db import models
from django.db.models import Exists, OuterRef, Q
from django.db.models.functions import Now

from orchestrator.db.fields import EncryptedTextField
from orchestrator.db.models import BaseModel

if TYPE_CHECKING:
    from collections.abc import Collection
    from uuid import UUID

AUDIT = "audit"  # the kind of deliveries of the audit trail, which has numbers of its own


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
        """Return what a viewer with these rights (`accounts.permissions.audience`) may see."""
        return self.filter(
            Q(permission__in=permissions) | Q(scope__in=permissions) | Q(owner_id=user_id)
        )


class Event(SealedModel):
    """One thing that happened. `subject` names it (`vm:<id>`); `data` holds no secret."""

    kind = models.CharField(max_length=60, db_index=True)
    subject = models.CharField(max_length=80)
    data = models.JSONField(default=dict)
    # Who may see it: those with this permission, those with it for one role (`scope` is the
    # permission, a colon and the role's id), and this account.
    permission = models.CharField(max_length=40)
    scope = models.CharField(max_length=80, blank=True)
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

    def may_be_seen(self, user_id: UUID, permissions: Collection[str]) -> bool:
        """As `EventQuerySet.readable`, in memory."""
        return (
            self.permission in permissions
            or self.scope in permissions
            or (self.owner_id is not None and self.owner_id == user_id)
        )


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
    audit_cursor = models.BigIntegerField(default=0)  # the same of the audit trail
    paused_at = models.DateTimeField(null=True)
    paused_reason = models.CharField(max_length=300, blank=True)

    objects = WebhookQuerySet.as_manager()

    def __str__(self) -> str:
        return self.name

    def wants(self, kind: str) -> bool:
        """Return whether events of this kind go to it; those about webhooks go to none.

        The audit trail is no event: it goes only where it is asked for by its name. So do the logs
        of steps, of which there may be many.
        """
        noun = kind.partition(".")[0]
        asked = kind in self.kinds or noun in self.kinds
        return noun != "webhook" and (asked or (not self.kinds and noun != "step"))


class DeliveryQuerySet(models.QuerySet["Delivery"]):
    def due(self) -> DeliveryQuerySet:
        """Return deliveries that nobody has in work and whose time has come.

        The audit trail is sent in order: of each webhook the first that has not arrived.
        """
        earlier = Delivery.objects.filter(
            webhook=OuterRef("webhook"),
            kind=AUDIT,
            state=Delivery.State.PENDING,
            sequence__lt=OuterRef("sequence"),
        )
        return self.filter(
            Q(claimed_until=None) | Q(claimed_until__lte=Now()),
            ~Q(kind=AUDIT) | ~Exists(earlier),
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
    scope = models.CharField(max_length=80, blank=True)
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
                condition=Q(sequence__isnull=False) & ~Q(kind=AUDIT),
            ),
            models.UniqueConstraint(
                fields=["webhook", "sequence"],
                name="delivery_of_audit_once",
                condition=Q(kind=AUDIT),
            ),
        ]
        indexes = [
            models.Index(fields=["next_at"], name="delivery_due", condition=Q(state="pending")),
            models.Index(fields=["claim"], name="delivery_claim"),
        ]

    def __str__(self) -> str:
        return f"{self.kind} to {self.webhook_id}"
