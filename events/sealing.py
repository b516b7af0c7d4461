"""The sealer: gives committed rows consecutive numbers, one sealer at a time."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from django.db import connection, transaction

from events.models import Event, Sequence
from orchestrator.db.bulk import write_columns
from orchestrator.web import wake

if TYPE_CHECKING:
    from collections.abc import Callable

BATCH = 2000


def seal(model: type[Any], name: str, chain: Callable[[Any, str], str] | None = None) -> int:
    """Number the committed, unnumbered rows of `model` in id order; return how many.

    `chain(row, previous_digest)` sets what the row stores of its hash chain and returns its digest.
    Rows that commit while this runs get their number in the next round. A second sealer returns 0
    at once on PostgreSQL (the row of `Sequence` is locked) and waits its turn on SQLite.
    """
    if not model.objects.filter(sequence__isnull=True).exists():
        return 0
    Sequence.objects.get_or_create(name=name)
    with transaction.atomic():
        head = (
            Sequence.objects.select_for_update(
                skip_locked=connection.features.has_select_for_update_skip_locked
            )
            .filter(name=name)
            .first()
        )
        if head is None:
            return 0
        unsealed = model.objects.filter(sequence__isnull=True).order_by("id")
        rows = list((unsealed if chain else unsealed.only("pk"))[:BATCH])
        for row in rows:
            head.last += 1
            row.sequence = head.last
            if chain:
                head.digest = chain(row, head.digest)
        fields = ["sequence", *(["previous_digest", "digest"] if chain else [])]
        write_columns(rows, fields)
        head.save()
    return len(rows)


def seal_events() -> int:
    """Number the new events and wake whoever listens; return how many there were."""
    count = seal(Event, "events")
    if count:
        wake.wake("events")
    return count
