"""The hash chain over the audit trail: each event's digest covers the one before it."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass

from accounts.models import AuditEvent
from events.models import Sequence
from events.sealing import seal

GENESIS = "0" * 64


def _digest(event: AuditEvent, previous: str) -> str:
    """Return the SHA-256 over the previous digest and every stored word of the event."""
    record = {
        "sequence": event.sequence,
        "id": str(event.pk),
        "created_at": event.created_at.isoformat(),
        "action": event.action,
        "outcome": event.outcome,
        "actor": [str(event.actor_id), event.actor_name],
        "token": [str(event.token_id), event.token_name],
        "address": event.address,
        "request_id": event.request_id,
        "subject": [event.subject, event.subject_name],
        "data": event.data,
    }
    text = json.dumps(record, sort_keys=True, ensure_ascii=False, separators=(",", ":"))
    return hashlib.sha256(f"{previous}\n{text}".encode()).hexdigest()


def _chain(event: AuditEvent, previous: str) -> str:
    event.previous_digest = previous
    event.digest = _digest(event, previous)
    return event.digest


def seal_audit() -> int:
    """Number and chain the new audit events; return how many there were."""
    return seal(AuditEvent, "audit", _chain)


@dataclass(frozen=True)
class Verdict:
    """What checking the chain found: `broken_at` is the first number that does not fit."""

    checked: int
    head: str
    broken_at: int | None = None
    reason: str = ""


def verify() -> Verdict:
    """Check numbers and hashes of every sealed audit event, and that none is missing at the end."""
    expected, previous = 1, GENESIS
    for event in AuditEvent.objects.filter(sequence__isnull=False).order_by("sequence").iterator():
        if event.sequence != expected:
            return Verdict(expected - 1, previous, expected, "an event is missing here")
        if event.previous_digest != previous or event.digest != _digest(event, previous):
            return Verdict(expected - 1, previous, expected, "this event was changed")
        expected, previous = expected + 1, event.digest
    head = Sequence.objects.filter(name="audit").first()
    if head and (head.last, head.digest) != (expected - 1, previous):
        return Verdict(expected - 1, previous, expected, "events are missing at the end")
    return Verdict(expected - 1, previous)
