"""The audit trail on its way to the webhooks of those who may read it.

Each sealed event becomes one delivery, signed like any other. A webhook is sent them one after the
other, in the order of their numbers; when its receiver is away for a day it is paused, and goes on
with the same event later.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

from django.db import transaction

from accounts.audit.chain import SEQUENCE
from accounts.audit.exporting import record
from accounts.models import AuditEvent
from events.models import AUDIT, Delivery, Sequence, Webhook

if TYPE_CHECKING:
    from events.webhooks.delivering import Rights

PERMISSION = "audit.view"
BATCH = 200
WEBHOOKS = 200


def last_number() -> int:
    """Return the number of the newest sealed event; 0 without any."""
    return Sequence.objects.filter(name=SEQUENCE).values_list("last", flat=True).first() or 0


def fan_out(rights: Rights) -> int:
    """Make a delivery of each new event for each webhook that asked for it; return how many.

    What happens while its owner may not read the trail is never sent there.
    """
    newest = last_number()
    behind = [
        webhook
        for webhook in Webhook.objects.active().filter(audit_cursor__lt=newest)
        if AUDIT in webhook.kinds
    ][:WEBHOOKS]
    allowed = rights({webhook.owner_id for webhook in behind}) if behind else {}
    return sum(
        _fan_out(webhook, may=PERMISSION in allowed.get(webhook.owner_id, ()), newest=newest)
        for webhook in behind
    )


def _fan_out(webhook: Webhook, *, may: bool, newest: int) -> int:
    rows = AuditEvent.objects.filter(sequence__gt=webhook.audit_cursor, sequence__lte=newest)
    events = list(rows.order_by("sequence")[:BATCH]) if may else []
    reached = events[-1].sequence if events else newest
    with transaction.atomic():
        # Whoever moves the cursor makes the deliveries.
        here = Webhook.objects.active().filter(pk=webhook.pk, audit_cursor=webhook.audit_cursor)
        if not here.update(audit_cursor=reached):
            return 0
        Delivery.objects.bulk_create(_delivery(webhook, event) for event in events)
    return len(events)


def _delivery(webhook: Webhook, event: AuditEvent) -> Delivery:
    return Delivery(
        webhook=webhook,
        sequence=event.sequence,
        kind=AUDIT,
        subject=event.subject,
        body=json.dumps({"kind": AUDIT, **record(event)}),
        permission=PERMISSION,
    )
