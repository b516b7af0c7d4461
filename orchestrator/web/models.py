from __future__ import annotations

from typing import Any

from django.db import models
from django.db.models.functions import Now

from orchestrator.db.clock import from_now

AWAY_SECONDS = 20  # four missed beats
FORGET_SECONDS = 3600


class HeartbeatQuerySet(models.QuerySet["Heartbeat"]):
    def alive(self) -> HeartbeatQuerySet:
        """Return the processes that gave a sign of life lately, by the database's clock."""
        return self.filter(at__gt=from_now(-AWAY_SECONDS))


class Heartbeat(models.Model):
    """A sign of life of a worker or beat. In the database, so that it can be read without Redis."""

    name = models.CharField(max_length=200, primary_key=True)
    kind = models.CharField(max_length=20)
    queues = models.JSONField(default=list)
    at = models.DateTimeField()

    objects = HeartbeatQuerySet.as_manager()

    def __str__(self) -> str:
        return self.name

    @classmethod
    def note(cls, name: str, kind: str, queues: list[str]) -> None:
        """Store that the process `name` is alive now."""
        now: Any = Now()
        Heartbeat.objects.bulk_create(
            [Heartbeat(name=name, kind=kind, queues=queues, at=now)],
            update_conflicts=True,
            unique_fields=["name"],
            update_fields=["kind", "queues", "at"],
        )

    @classmethod
    def forget_old(cls) -> None:
        """Delete the rows of processes that ended without a word."""
        cls.objects.filter(at__lt=from_now(-FORGET_SECONDS)).delete()
