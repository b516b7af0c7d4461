"""The bell: tells a worker that a job is due. The only place that sends a message.

It may be lost, doubled or late; the sweeper rings again. It never fails its caller.
"""

from __future__ import annotations

import threading
import time
from typing import TYPE_CHECKING

import redis
import structlog
from celery import current_app
from django.conf import settings
from django.db import transaction
from django.db.models.functions import Now

from jobs.models import Job
from orchestrator.web import wake

if TYPE_CHECKING:
    from uuid import UUID

log = structlog.get_logger(__name__)

# After a lost bell this process rings none for a moment: with the broker away each try costs the
# caller half a second, and the sweeper will ring anyway.
QUIET_SECONDS = 2.0
# So long an unheard ring for a recurring task stands for those that follow; it may be lost.
UNHEARD_SECONDS = 1
_quiet = threading.Lock()
_quiet_until = 0.0


def ring(job_id: UUID, queue: str, *, delay: float = 0) -> None:
    """Ring for the job when the current transaction has committed, `delay` seconds later."""

    def on_commit() -> None:
        if _send("jobs.tasks.run_job", (str(job_id),), queue, delay) and not delay:
            Job.objects.filter(pk=job_id).update(rung_at=Now())

    transaction.on_commit(on_commit, robust=True)


def ring_tick(task: str) -> None:
    """Ring for a recurring task (`vms.tasks.place`) on commit, instead of waiting for its beat.

    Many rings that nobody has heard yet are one: the task calls `heard` before it looks.
    """

    def on_commit() -> None:
        if time.monotonic() < _quiet_until:
            return
        try:
            unheard = not wake.first(task, UNHEARD_SECONDS)
        except redis.RedisError as error:
            _lost(task, (), error)
            return
        if not unheard:
            _send(task, (), Job.Queue.STEPS)

    transaction.on_commit(on_commit, robust=True)


def heard(task: str) -> None:
    """Say that the recurring task begins now: what commits from now on rings again."""
    wake.forget(task)


def _send(task: str, args: tuple[str, ...], queue: str, delay: float = 0) -> bool:
    if time.monotonic() < _quiet_until:
        return False
    try:
        for _ in range(2 if settings.JOBS_RING_TWICE else 1):
            current_app.send_task(
                task, args, queue=queue, retry=False, countdown=delay or None, ignore_result=True
            )
    except Exception as error:  # the broker's errors have no common base class
        _lost(task, args, error)
        return False
    return True


def _lost(task: str, args: tuple[str, ...], error: Exception) -> None:
    global _quiet_until
    with _quiet:
        _quiet_until = time.monotonic() + QUIET_SECONDS
    log.warning("bell.lost", task=task, args=args, error=type(error).__name__)
