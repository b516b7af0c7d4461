from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING

from django.db import models
from django.utils import timezone

from orchestrator.db.models import BaseModel

if TYPE_CHECKING:
    from datetime import datetime

KEPT = timedelta(hours=24)


def _oldest() -> datetime:
    return timezone.now() - KEPT


class IdempotencyKeyQuerySet(models.QuerySet["IdempotencyKey"]):
    def remembered(self) -> IdempotencyKeyQuerySet:
        return self.filter(created_at__gt=_oldest())

    def expired(self) -> IdempotencyKeyQuerySet:
        return self.filter(created_at__lte=_oldest())


class IdempotencyKey(BaseModel):
    """One effect of a POST that named a key, written in the transaction of that effect.

    The unique constraint is the lock: of two requests with one key at once, the second waits at
    its insert until the first has committed, and then answers with what the first one made. Rooms
    are not imported here, so the account is an id and the subject a name (`vm:<id>`).
    """

    account_id = models.UUIDField()
    key = models.CharField(max_length=128)
    method = models.CharField(max_length=8)
    path = models.CharField(max_length=300)
    body_digest = models.CharField(max_length=64)  # SHA-256, hexadecimal
    status = models.PositiveSmallIntegerField()
    subject = models.CharField(max_length=80)

    objects = IdempotencyKeyQuerySet.as_manager()

    class Meta:
        constraints = [
            models.UniqueConstraint(fields=["account_id", "key"], name="idempotency_key_once")
        ]
        indexes = [models.Index(fields=["created_at"], name="idempotency_key_age")]

    def __str__(self) -> str:
        return f"{self.method} {self.path} {self.key}"
