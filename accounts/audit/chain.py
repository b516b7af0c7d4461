"""The hash chain over the audit trail: each event's digest covers the one before it."""

from __future__ import annotations

import hashlib
import json
import uuid
from dataclasses import dataclass
from typing import TYPE_CHECKING

import structlog
from django.db import transaction
from django.db.models.functions import Now

from accounts.actors import SYSTEM
from accounts.audit.recording import audit
from accounts.models import AuditEvent, AuditMark
from events.models import Sequence
from events.sealing import seal
from orchestrator.db.clock import from_now
from orchestrator.db.models import RowLease

if TYPE_CHECKING:
    from datetime import datetime

log = structlog.get_logger(__name__)

SEQUENCE = "audit"
PRUNED = "audit.pruned"
CHECK_SECONDS = 3600
CHECK_LEASE = "audit-check"


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
    return seal(AuditEvent, SEQUENCE, _chain)


@dataclass(frozen=True)
class Verdict:
    """What checking the chain found: `broken_at` is the first number that does not fit.

    `pruned` is the number up to which retention has removed the events; `checked` counts those
    behind it that are intact, and `head` is the digest of the last of them.
    """

    checked: int
    head: str
    broken_at: int | None = None
    reason: str = ""
    pruned: int = 0


def verify() -> Verdict:
    """Check numbers and hashes of every sealed audit event, and that none is missing at either end.

    Events are sealed and pruned meanwhile: what was there when it began is checked.
    """
    while True:
        anchor = AuditMark.of(AuditMark.Name.PRUNED)
        verdict = _verify_from(anchor)
        moved = AuditMark.of(AuditMark.Name.PRUNED).sequence != anchor.sequence
        if verdict.broken_at is None or not moved:
            return verdict


def _verify_from(anchor: AuditMark) -> Verdict:
    head = Sequence.objects.filter(name=SEQUENCE).first() or Sequence(name=SEQUENCE)
    begin, previous = anchor.sequence, anchor.digest
    expected = begin + 1

    def broken(reason: str, at: int | None = None) -> Verdict:
        return Verdict(expected - 1 - begin, previous, at or expected, reason, begin)

    if begin and not _is_vouched_for(anchor):
        return broken("events are missing at the beginning, and not by retention", begin)
    rows = AuditEvent.objects.filter(sequence__gt=begin, sequence__lte=head.last)
    for event in rows.order_by("sequence").iterator():
        if event.sequence != expected:
            return broken("an event is missing here")
        if event.previous_digest != previous or event.digest != _digest(event, previous):
            return broken("this event was changed")
        expected, previous = expected + 1, event.digest
    if (head.last, head.digest) != (expected - 1, previous):
        return broken("events are missing at the end")
    if AuditEvent.objects.filter(sequence__gt=head.last).exists() and not _grew_since(head):
        return broken("events were added at the end")
    return Verdict(expected - 1 - begin, previous, pruned=begin)


def _grew_since(head: Sequence) -> bool:
    return Sequence.objects.filter(name=SEQUENCE, last__gt=head.last).exists()


def _is_vouched_for(anchor: AuditMark) -> bool:
    """Return whether the trail itself tells of this pruning: the telling is in the chain."""
    told = AuditEvent.objects.filter(action=PRUNED, outcome=AuditEvent.Outcome.DONE)
    wanted = (anchor.sequence, anchor.digest)
    return any(
        (data.get("up_to"), data.get("digest")) == wanted
        for data in told.order_by("-pk").values_list("data", flat=True)[:10]
    )


def prune(before: datetime, *, at_most: int | None = None) -> int:
    """Begin the chain later: behind the events before the moment `before`; return their number.

    Moves the anchor and tells of it in the trail, in one transaction. The rows behind it are then
    `AuditEvent.objects.beyond_retention()`, to be deleted at leisure: nothing reads them any more.
    `at_most` keeps what has a higher number.
    """
    sealed = AuditEvent.objects.sealed()
    anchor, _ = AuditMark.objects.get_or_create(name=AuditMark.Name.PRUNED)
    # By number: a long transaction may have sealed an older moment behind a newer one.
    kept = sealed.filter(sequence__gt=anchor.sequence, created_at__gte=before)
    first_kept = kept.order_by("sequence").values_list("sequence", flat=True).first()
    old = sealed.filter(sequence__gt=anchor.sequence)
    if first_kept is not None:
        old = old.filter(sequence__lt=first_kept)
    if at_most is not None:
        old = old.filter(sequence__lte=at_most)
    last = old.order_by("-sequence").first()
    if last is None:
        return 0
    with transaction.atomic():
        here = AuditMark.objects.filter(name=AuditMark.Name.PRUNED, sequence=anchor.sequence)
        if not here.update(sequence=last.sequence, digest=last.digest, at=Now()):
            return 0  # another process did it
        audit(
            SYSTEM,
            PRUNED,
            "audit:",
            "audit trail",
            data={
                "from": anchor.sequence + 1,
                "up_to": last.sequence,
                "digest": last.digest,
                "before": before.isoformat(),
            },
        )
    return (last.sequence or 0) - anchor.sequence


def check_if_due() -> Verdict | None:
    """Verify the chain when that was not done for an hour, and keep what came of it.

    None when it is not due, or another process is at it. A chain that is broken is an error in the
    log, each time.
    """
    mark = AuditMark.objects.filter(name=AuditMark.Name.CHECKED)
    if mark.filter(at__gt=from_now(-CHECK_SECONDS)).exists():
        return None
    holder = uuid.uuid4()
    if not RowLease.take(CHECK_LEASE, holder, CHECK_SECONDS):
        return None
    try:
        verdict = verify()
        keep(verdict)
    finally:
        RowLease.objects.filter(name=CHECK_LEASE, holder=holder).update(until=Now(), again=False)
    return verdict


def keep(verdict: Verdict) -> None:
    """Store what a check found, for the page."""
    if verdict.broken_at is not None:
        log.error("audit.broken", number=verdict.broken_at, reason=verdict.reason)
    AuditMark.objects.update_or_create(
        name=AuditMark.Name.CHECKED,
        defaults={
            "sequence": verdict.broken_at or verdict.pruned + verdict.checked,
            "digest": verdict.head,
            "problem": verdict.reason,
            "at": Now(),
        },
    )
