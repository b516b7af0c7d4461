from __future__ import annotations

import uuid
from typing import Any

from django.db import models
from django.db.models import Q
from django.db.models.functions import Now

from orchestrator.db.clock import from_now
from orchestrator.db.ids import uuid7


class BaseModel(models.Model):
    """A row with a time-sortable id, unique in the whole product."""

    id = models.UUIDField(primary_key=True, default=uuid7, editable=False)
    created_at = models.DateTimeField(auto_now_add=True)

    class Meta:
        abstract = True


class RowLease(models.Model):
    """The right to do one recurring piece of work, held by one process at a time.

    Held until `until` on the database's clock, so that a killed holder blocks nobody for long.
    """

    name = models.CharField(max_length=100, primary_key=True)
    holder = models.UUIDField(default=uuid.uuid4)
    until = models.DateTimeField()
    again = models.BooleanField(default=False)  # somebody asked while it was held

    def __str__(self) -> str:
        return self.name

    @classmethod
    def take(cls, name: str, holder: uuid.UUID, seconds: float) -> bool:
        """Take or renew the lease `name` for `seconds`; return whether `holder` has it now.

        Somebody who does not get it leaves a note, which makes the holder go round once more.
        """
        taken = cls.objects.filter(Q(until__lte=Now()) | Q(holder=holder), name=name).update(
            holder=holder, until=from_now(seconds)
        )
        if taken:
            return True
        if cls.objects.filter(name=name).update(again=True):
            return False
        _, created = cls.objects.get_or_create(
            name=name, defaults={"holder": holder, "until": from_now(seconds)}
        )
        return created

    @classmethod
    def release(cls, name: str, holder: uuid.UUID) -> bool:
        """Give the lease `name` back; return False when somebody asked meanwhile (it is kept then).

        The note is taken away in the same step, so that no request is lost between two rounds.
        """
        if cls.objects.filter(name=name, holder=holder, again=False).update(until=Now()):
            return True
        return not cls.objects.filter(name=name, holder=holder, again=True).update(again=False)


def moved(queryset: models.QuerySet[Any], **values: Any) -> bool:
    """Run one conditional UPDATE and return whether exactly this caller made the change."""
    return queryset.update(**values) == 1
