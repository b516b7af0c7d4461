"""Handing out the audit trail as CSV or JSON lines, of any length, in bounded memory."""

from __future__ import annotations

import csv
import json
from typing import TYPE_CHECKING, Any

from django.http import StreamingHttpResponse
from django.utils import timezone

from accounts.audit.recording import audit
from orchestrator.db.ids import uuid7
from orchestrator.refusals import Invalid

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from uuid import UUID

    from django.db.models import QuerySet

    from accounts.actors import Actor
    from accounts.models import AuditEvent

BATCH = 500
MEDIA_TYPES = {"csv": "text/csv", "jsonl": "application/x-ndjson"}
COLUMNS = (
    *("sequence", "created_at", "outcome", "action", "subject", "subject_name", "actor"),
    *("actor_id", "token", "token_id", "address", "request_id", "data", "digest", "id"),
)
# A sheet takes a cell that begins so for a formula.
FORMULAS = ("=", "+", "-", "@", "\t", "\r")


def export(
    actor: Actor, rows: QuerySet[AuditEvent], form: str, *, filters: Mapping[str, object]
) -> StreamingHttpResponse:
    """Return `rows`, oldest first, as a download in `form` (`csv` or `jsonl`).

    `filters` is how the rows were narrowed: that somebody took a copy is part of the trail.
    Raises `Forbidden` without `audit.view`, `Invalid` for another form.
    """
    actor.require("audit.view")
    if form not in MEDIA_TYPES:
        raise Invalid.field("as", f"Choose one of {', '.join(MEDIA_TYPES)}.")
    rows = rows.filter(pk__lt=uuid7())  # a trail that grows while it is read has an end so
    audit(actor, "audit.exported", "audit:", "audit trail", data={"as": form, "filters": filters})
    write = {"csv": _csv, "jsonl": _lines}[form]
    response = StreamingHttpResponse(
        write(in_batches(rows)), content_type=f"{MEDIA_TYPES[form]}; charset=utf-8"
    )
    name = f"audit-{timezone.now():%Y%m%d-%H%M%S}.{form}"
    response["Content-Disposition"] = f'attachment; filename="{name}"'
    response["Cache-Control"] = "no-store"
    return response


def record(event: AuditEvent) -> dict[str, Any]:
    """Return an event as exports and syslog show it."""
    return {
        "sequence": event.sequence,
        "created_at": event.created_at.isoformat(),
        "outcome": event.outcome,
        "action": event.action,
        "subject": event.subject,
        "subject_name": event.subject_name,
        "actor": event.actor_name,
        "actor_id": str(event.actor_id) if event.actor_id else None,
        "token": event.token_name,
        "token_id": str(event.token_id) if event.token_id else None,
        "address": event.address,
        "request_id": event.request_id,
        "data": event.data,
        "digest": event.digest,
        "id": str(event.pk),
    }


def in_batches(rows: QuerySet[AuditEvent]) -> Iterator[AuditEvent]:
    """Yield rows in order of their ids by short queries: a slow reader keeps no transaction."""
    last: UUID | None = None
    rows = rows.order_by("pk")
    while True:
        batch = list((rows.filter(pk__gt=last) if last else rows)[:BATCH])
        yield from batch
        if len(batch) < BATCH:
            return
        last = batch[-1].pk


def _lines(events: Iterator[AuditEvent]) -> Iterator[str]:
    for event in events:
        yield json.dumps(record(event), ensure_ascii=False) + "\n"


class _Line:
    """A file for `csv` that gives each line back."""

    def write(self, line: str) -> str:
        return line


def _csv(events: Iterator[AuditEvent]) -> Iterator[str]:
    writer = csv.writer(_Line())
    yield writer.writerow(COLUMNS)
    for event in events:
        values = record(event)
        values["data"] = json.dumps(values["data"], ensure_ascii=False)
        yield writer.writerow(_cell(values[name]) for name in COLUMNS)


def _cell(value: Any) -> Any:
    return f"'{value}" if isinstance(value, str) and value.startswith(FORMULAS) else value
