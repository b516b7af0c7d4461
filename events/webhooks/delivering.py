"""From sealed events to deliveries, and from deliveries to receivers.

Both are ticks that any worker may run, any number at once: what a tick takes, it takes by one
conditional UPDATE. A webhook follows the events by their numbers, so it skips none, and each is
sent at least once, with the same id at each try.
"""

from __future__ import annotations

import json
import time
import uuid
from collections import Counter
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from typing import TYPE_CHECKING, Any

import structlog
from django.conf import settings
from django.db import connection, transaction
from django.db.models import F, Q
from django.db.models.functions import Now

from events.models import AUDIT, Delivery, Event, Webhook
from events.stream import as_json
from events.webhooks import sending
from orchestrator.db.clock import from_now
from orchestrator.db.models import RowLease

if TYPE_CHECKING:
    from collections.abc import Callable, Collection
    from uuid import UUID

    from events.webhooks.sending import Attempt

    # By account: what it may see now; an account that is missing may see nothing.
    Rights = Callable[[Collection[UUID]], dict[UUID, frozenset[str]]]

log = structlog.get_logger(__name__)

# After the first try, the second and so on; seconds. About a day in all.
PAUSES = (5, 30, 120, 600, 1800, 3600, 3 * 3600, 6 * 3600, 12 * 3600)
BATCH = 200
ROUNDS = 10
AT_ONCE = 4  # deliveries of one webhook, so that a slow receiver delays no other
THREADS = 32
TICK_SECONDS = 20.0
LOOK_SECONDS = 0.5  # while some are under way
CLAIM_MARGIN_SECONDS = 30
LEASE = "webhooks"
NOT_ALLOWED = "The owner of the webhook may not see this event any more."


def fan_out(rights: Rights) -> int:
    """Make a delivery of each new event for each webhook that wants it; return how many."""
    newest = Event.objects.sealed().order_by("-sequence").values_list("sequence", flat=True).first()
    if newest is None:
        return 0
    behind = list(Webhook.objects.active().filter(cursor__lt=newest)[:BATCH])
    allowed = rights({webhook.owner_id for webhook in behind})
    return sum(_catch_up(webhook, allowed.get(webhook.owner_id)) for webhook in behind)


def _catch_up(webhook: Webhook, permissions: frozenset[str] | None) -> int:
    made = 0
    for _ in range(ROUNDS):  # the next tick goes on
        before = webhook.cursor
        made += _fan_out(webhook, permissions)
        webhook.refresh_from_db(fields=["cursor"])
        if webhook.cursor - before < BATCH:
            break
    return made


def _fan_out(webhook: Webhook, permissions: frozenset[str] | None) -> int:
    events = list(Event.objects.after(webhook.cursor)[:BATCH])
    if not events:
        return 0
    wanted = [
        event
        for event in events
        if webhook.wants(event.kind) and _may_see(webhook, permissions, event)
    ]
    with transaction.atomic():
        # Whoever moves the cursor makes the deliveries.
        moved = Webhook.objects.active().filter(pk=webhook.pk, cursor=webhook.cursor)
        if not moved.update(cursor=events[-1].sequence):
            return 0
        Delivery.objects.bulk_create(_delivery(webhook, event) for event in wanted)
    return len(wanted)


def _may_see(webhook: Webhook, permissions: frozenset[str] | None, event: Event) -> bool:
    return permissions is not None and event.may_be_seen(webhook.owner_id, permissions)


def _delivery(webhook: Webhook, event: Event) -> Delivery:
    return Delivery(
        webhook=webhook,
        sequence=event.sequence,
        kind=event.kind,
        subject=event.subject,
        body=json.dumps(as_json(event)),
        permission=event.permission,
        scope=event.scope,
        event_owner_id=event.owner_id,
    )


def make_ping(webhook: Webhook) -> Delivery:
    """Store a delivery of the kind `ping`, which goes out with the next tick."""
    body: dict[str, Any] = {"kind": "ping", "subject": f"webhook:{webhook.pk}", "data": {}}
    return Delivery.objects.create(
        webhook=webhook, kind="ping", subject=f"webhook:{webhook.pk}", body=json.dumps(body)
    )


def deliver(rights: Rights) -> int:
    """Send what is due, until nothing is or the time is over; return how many tries there were.

    One process does this at a time. A receiver that does not answer holds only its own few threads.
    """
    holder = uuid.uuid4()
    if not RowLease.take(LEASE, holder, TICK_SECONDS + settings.WEBHOOK_SECONDS + 10):
        return 0
    ends = time.monotonic() + TICK_SECONDS
    tries = 0
    while True:
        tries += _send_until(ends, rights)
        if RowLease.release(LEASE, holder):
            return tries


def _send_until(ends: float, rights: Rights) -> int:
    """Send what is due, and wait for all that was begun; after `ends` nothing more is."""
    under_way: set[Future[None]] = set()
    tries = 0
    with ThreadPoolExecutor(THREADS, thread_name_prefix="webhook") as pool:
        while True:
            claimed = _claim() if time.monotonic() < ends else []
            allowed = rights({one.webhook.owner_id for one in claimed}) if claimed else {}
            under_way |= {pool.submit(_try, one, allowed) for one in claimed}
            tries += len(claimed)
            if not under_way:
                return tries
            _done, under_way = wait(under_way, LOOK_SECONDS, FIRST_COMPLETED)


def _claim() -> list[Delivery]:
    """Take deliveries that are due, a few of each webhook, for longer than a try may take."""
    due = Delivery.objects.due()
    busy = Counter(
        Delivery.objects.filter(state=Delivery.State.PENDING, claimed_until__gt=Now()).values_list(
            "webhook", flat=True
        )
    )
    chosen: list[UUID] = []
    for webhook_id in due.order_by().values_list("webhook", flat=True).distinct()[:BATCH]:
        room = max(0, AT_ONCE - busy[webhook_id])
        rows = due.filter(webhook=webhook_id).order_by("pk").values_list("pk", flat=True)
        chosen += rows[:room]
    if not chosen:
        return []
    claim = uuid.uuid4()
    seconds = settings.WEBHOOK_SECONDS + CLAIM_MARGIN_SECONDS
    due.filter(pk__in=chosen).update(claim=claim, claimed_until=from_now(seconds))
    return list(Delivery.objects.filter(claim=claim).select_related("webhook").order_by("pk"))


def _try(delivery: Delivery, allowed: dict[UUID, frozenset[str]]) -> None:
    webhook = delivery.webhook
    try:
        permissions = allowed.get(webhook.owner_id)
        may = permissions is not None and (
            delivery.kind == "ping"
            or delivery.permission in permissions
            or delivery.scope in permissions
            or delivery.event_owner_id == webhook.owner_id
        )
        if may:
            _settle(delivery, sending.send(webhook, delivery))
        else:
            _update(delivery, state=Delivery.State.FAILED, problem=NOT_ALLOWED)
    except Exception:  # the claim runs out, and it is tried again
        log.exception("webhook.failed", delivery=str(delivery.pk))
    finally:
        connection.close()


def _settle(delivery: Delivery, attempt: Attempt) -> None:
    tries = delivery.tries + 1
    values: dict[str, Any] = {
        "tries": tries,
        "status": attempt.status,
        "milliseconds": attempt.milliseconds,
        "answer": attempt.answer.replace("\x00", ""),
        "problem": attempt.problem[:300],
        "tried_at": Now(),
    }
    if attempt.arrived:
        _update(delivery, state=Delivery.State.DELIVERED, **values)
    elif tries > len(PAUSES) and delivery.kind == AUDIT:
        with transaction.atomic():  # it stays the next one: nothing of the trail is left out
            if _update(delivery, next_at=Now(), **(values | {"tries": 0})):
                _pause(delivery.webhook, attempt)
    elif tries > len(PAUSES) or delivery.kind == "ping":
        with transaction.atomic():
            if _update(delivery, state=Delivery.State.FAILED, **values) and delivery.kind != "ping":
                _pause(delivery.webhook, attempt)
    else:
        _update(delivery, next_at=from_now(PAUSES[tries - 1]), **values)


def _update(delivery: Delivery, **values: Any) -> bool:
    rows = Delivery.objects.filter(pk=delivery.pk, claim=delivery.claim)
    return bool(rows.update(claim=None, claimed_until=None, **values))


def _pause(webhook: Webhook, attempt: Attempt) -> None:
    """Stop a webhook that did not take an event for a whole day; its owner sees why."""
    said = f"status {attempt.status}" if attempt.status else attempt.problem
    reason = f"A delivery failed at every try for a day, at last with: {said}"
    Webhook.objects.active().filter(pk=webhook.pk).update(
        paused_at=Now(), paused_reason=reason[:300]
    )


def again(delivery: Delivery) -> bool:
    """Send a delivery that has ended once more, with the same id; False when it has not ended."""
    ended = Delivery.objects.filter(
        Q(state=Delivery.State.DELIVERED) | Q(state=Delivery.State.FAILED), pk=delivery.pk
    )
    return bool(
        ended.update(
            state=Delivery.State.PENDING, next_at=Now(), tries=0, redelivered=F("redelivered") + 1
        )
    )
