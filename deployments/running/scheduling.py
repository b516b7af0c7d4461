"""Starts at a time: asked for by people, made by beat."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import TYPE_CHECKING

from django.conf import settings
from django.db import transaction
from django.db.models.functions import Now
from django.utils import timezone

from accounts.actors import SYSTEM
from accounts.audit import audit
from deployments.models.tasks import Task
from deployments.running import rights
from deployments.running.control import STARTABLE, start, starter_of, told
from deployments.running.moving import announce, locked, move_task, note
from deployments.states import TaskState
from orchestrator.refusals import Conflict, Invalid, Refusal
from vms.forms.durations import as_duration

if TYPE_CHECKING:
    from accounts.actors import Actor
    from jobs.models import Job

LONGEST_SCHEDULE = timedelta(days=90)  # three weeks ahead is always allowed, a year never
AGAIN = timedelta(minutes=5)  # until a start that was refused is tried again
MOST = 50  # tasks that one tick starts


def schedule(actor: Actor, task: Task, *, at: datetime) -> Job:
    """Let a task start at a time: not in the past, and at most 90 days ahead.

    It then starts with the rights that `actor` has at that time. Raises `Invalid`, `Conflict`.
    """
    rights.require_task(actor, task)
    if at <= timezone.now():
        raise Invalid.field("at", "This time is in the past. Give a later one, or start it now.")
    if at > timezone.now() + LONGEST_SCHEDULE:
        raise Invalid.field("at", f"Give a time within {LONGEST_SCHEDULE.days} days.")
    with transaction.atomic():
        actor.take()
        task = locked(task.pk)
        rights.take_task(actor, task)
        moved = move_task(
            task,
            TaskState.SCHEDULED,
            expect=STARTABLE,
            scheduled_for=at,
            due_at=at,
            reason="",
            started_by=actor.user,
            started_with=actor.token,
            address=actor.address,
        )
        if not moved:
            raise Conflict(f"This task is {task.state}; one that rests or is pending can wait.")
        return told(actor, task, "scheduled", f"for {at:%Y-%m-%d %H:%M} UTC")


def start_due() -> int:
    """Start the scheduled tasks whose time has come; return how many. For beat.

    After a time without beat those that were missed start at once. What refuses one is written on
    it, and it is tried again every five minutes, for `DEPLOYMENT_LATE_SECONDS` since it was due;
    then it has failed, for a person to look at.
    """
    due = Task.objects.filter(state=TaskState.SCHEDULED, scheduled_for__lte=Now())
    started = 0
    for task in due.select_related("started_by", "started_with").order_by("scheduled_for")[:MOST]:
        try:
            start(starter_of(task), task)
            started += 1
        except Refusal as refusal:
            _refused(task, refusal.message)
    return started


def _refused(task: Task, why: str) -> None:
    with transaction.atomic():
        task = locked(task.pk)
        if task.state != TaskState.SCHEDULED:
            return
        now = timezone.now()
        due = task.due_at or task.scheduled_for or now  # those of before had one time only
        limit = due + timedelta(seconds=settings.DEPLOYMENT_LATE_SECONDS)
        if now + AGAIN <= limit:
            reason = f"Not started at its time: {why} It is tried again until {limit:%H:%M} UTC."
            fresh = not task.reason  # told once, not every five minutes
            Task.objects.filter(pk=task.pk).update(
                scheduled_for=now + AGAIN, due_at=due, reason=reason[:500]
            )
            task.reason = reason[:500]
            if fresh:
                note(task, "refused", "orchestrator", reason)
        else:
            late = as_duration(int(settings.DEPLOYMENT_LATE_SECONDS))
            reason = f"Not started within {late} of its time: {why} Start it, or schedule it anew."
            move_task(
                task,
                TaskState.FAILED,
                expect=[TaskState.SCHEDULED],
                scheduled_for=None,
                reason=reason[:500],
                ended_at=Now(),
            )
            note(task, "given up", "orchestrator", reason)
            audit(SYSTEM, "task.not_started", task.subject, task.title, data={"reason": reason})
        announce(task)
