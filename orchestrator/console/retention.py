"""Forgetting what is older than the settings keep; the audit trail only where they say so."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING, Any

import structlog
from django.conf import settings
from django.db.models import Exists, OuterRef
from django.utils import timezone

from accounts.audit import prune
from accounts.models import AuditEvent, AuditMark
from catalog import uploading
from deployments import artifacts
from deployments.models import Task
from events.models import Delivery, Event
from jobs.models import Job
from orchestrator.api.models import IdempotencyKey
from orchestrator.console.queries import first_id
from vms.models import VirtualMachine
from vms.states import State

if TYPE_CHECKING:
    from datetime import datetime

    from django.db.models import QuerySet

log = structlog.get_logger(__name__)

BATCH = 500  # rows in one short transaction
BATCHES = 200  # in one run: the next hour goes on


def retain() -> None:
    """Delete what is old: events, finished jobs, archived tasks, idempotency keys.

    In batches. Safe to run twice.
    """
    now = timezone.now()
    oldest_event = first_id(now - timedelta(days=settings.EVENT_RETENTION_DAYS))
    oldest_job = first_id(now - timedelta(days=settings.JOB_RETENTION_DAYS))
    events = Event.objects.sealed().filter(pk__lt=oldest_event)
    # The newest event tells a stream where the feed stands, so one is always left.
    newest = Event.objects.sealed().order_by("-sequence").values("pk")[:1]
    jobs = (
        Job.objects.filter(pk__lt=oldest_job, state__in=Job.State.final())
        # The job of a VM that lives is part of its story; a part waits for its whole.
        .exclude(
            pk__in=VirtualMachine.objects.exclude(state__in=State.final())
            .filter(create_job__isnull=False)
            .values("create_job")
        )
        .exclude(Exists(Job.objects.open().filter(parent=OuterRef("pk"))))
    )
    _prune_audit(now)
    deleted = {
        "events": _delete(events.exclude(pk__in=newest)),
        "jobs": _delete(jobs),
        "deliveries": _delete(
            Delivery.objects.filter(pk__lt=oldest_event).exclude(state=Delivery.State.PENDING)
        ),
        "tasks": _delete(Task.objects.beyond_retention()),
        "idempotency_keys": _delete(IdempotencyKey.objects.expired()),
        "audit": _delete(AuditEvent.objects.beyond_retention()),
        "artifacts": artifacts.sweep(),
        "uploads": uploading.drop_old(),
    }
    if any(deleted.values()):
        log.info("retention.deleted", **deleted)


def _prune_audit(now: datetime) -> None:
    """Let the chain begin later. By whole days, so that pruning is told of once a day."""
    if settings.AUDIT_RETENTION_DAYS:
        before = now - timedelta(days=settings.AUDIT_RETENTION_DAYS)
        sent = AuditMark.of(AuditMark.Name.SYSLOG).sequence if settings.AUDIT_SYSLOG else None
        prune(before.replace(hour=0, minute=0, second=0, microsecond=0), at_most=sent)


def _delete(rows: QuerySet[Any]) -> int:
    """Delete `rows` in short transactions, oldest first; return how many, with their children."""
    model, total = rows.model, 0
    for _ in range(BATCHES):
        keys = list(rows.order_by("pk").values_list("pk", flat=True)[:BATCH])
        if not keys:
            break
        deleted, _by_model = model.objects.filter(pk__in=keys).delete()
        total += deleted
    return total
