"""Putting work into the queue, and asking it to stop."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from django.db import IntegrityError, transaction
from django.db.models.functions import Now

from accounts.audit import audit
from events.publishing import event_of, publish_all
from jobs import bell
from jobs.handlers import handler_of
from jobs.models import Job
from orchestrator.refusals import Conflict, Invalid

if TYPE_CHECKING:
    from collections.abc import Collection
    from uuid import UUID

    from accounts.actors import Actor
    from events.models import Event

PARKED = datetime(9999, 1, 1, tzinfo=UTC)  # the `run_after` of a job that waits to be woken


def enqueue(
    kind: str,
    subject: str,
    actor: Actor,
    *,
    payload: dict[str, Any] | None = None,
    lane: str = "",
    unique_key: str | None = None,
    message: str = "",
    parked: bool = False,
) -> Job:
    """Store a job in the caller's transaction and ring for it on commit.

    With a `unique_key`, an open job that has it is returned instead of a second one. A `parked` job
    waits until `proceed` (or a cancellation) wakes it.
    """
    handler = handler_of(kind)
    if unique_key and (found := Job.objects.open().filter(unique_key=unique_key).first()):
        return found
    job = Job(
        kind=kind,
        subject=subject,
        payload=payload or {},
        step=handler.first,
        queue=Job.Queue.CALLS if handler.first in handler.calls else Job.Queue.STEPS,
        lane=lane,
        unique_key=unique_key,
        message=message,
        actor=actor.user,
        token=actor.token,
        request_id=actor.request_id,
    )
    if parked:
        job.run_after = PARKED
    if unique_key:
        try:
            with transaction.atomic():
                job.save(force_insert=True)
        except IntegrityError:
            if found := Job.objects.open().filter(unique_key=unique_key).first():
                return found
            raise
    else:
        job.save(force_insert=True)
    publish_all([_changed(job, created=True)])
    if not parked:
        bell.ring(job.pk, job.queue)
    return job


def proceed(job: Job, step: str, *, lane: str = "") -> bool:
    """Wake a parked job at `step`; return whether it was parked (not cancelled meanwhile)."""
    queue = Job.Queue.CALLS if step in handler_of(job.kind).calls else Job.Queue.STEPS
    woken = Job.objects.filter(
        pk=job.pk, state=Job.State.QUEUED, lease_until=None, run_after=PARKED
    ).update(step=step, queue=queue, lane=lane, run_after=Now(), message="")
    if woken:
        bell.ring(job.pk, queue)
    return bool(woken)


def note_external_id(job: Job, text: str) -> None:
    """Keep what another server, which asked for `job`, calls it. Raises `Invalid`."""
    if len(text) > 64 or not text.isascii() or not text.isprintable():
        raise Invalid("An external id of a job has at most 64 visible ASCII characters.")
    Job.objects.filter(pk=job.pk).update(external_id=text)
    job.external_id = text


def hurry(subjects: Collection[str]) -> int:
    """Let the jobs about `subjects` that wait for their next look have it now; return how many."""
    waiting = Job.objects.filter(
        subject__in=subjects,
        state=Job.State.QUEUED,
        lease_until=None,
        run_after__gt=Now(),
        run_after__lt=PARKED,
    )
    with transaction.atomic():
        # In order, so that two who hurry the same jobs do not wait for each other.
        found = list(waiting.select_for_update().order_by("pk").values_list("pk", "queue"))
        if found:
            waiting.filter(pk__in=[pk for pk, _ in found]).update(run_after=Now())
        for pk, queue in found:
            bell.ring(pk, queue)
    return len(found)


def announce(job: Job) -> None:
    """Publish that the job changed."""
    publish_all([_changed(job)])


def _changed(job: Job, *, created: bool = False) -> Event:
    return event_of(
        "job.changed",
        f"job:{job.pk}",
        {
            "kind": job.kind,
            "state": job.state,
            "subject": job.subject,
            "progress": job.progress,
            **({"created": True} if created else {}),
        },
        permission="jobs.view_all",
        owner_id=job.actor_id,
    )


def request_cancel(job: Job, *, reason: str = "") -> bool:
    """Ask an open job to stop; return whether it will. Its handler undoes what is under way."""
    asked = (
        Job.objects.open()
        .filter(pk=job.pk)
        .exclude(state=Job.State.CANCELLING)
        .update(
            state=Job.State.CANCELLING,
            message=reason[:300],
            run_after=Now(),  # a step that is running ends first and then finds this state
        )
    )
    if asked:
        job.refresh_from_db()
        announce(job)
        bell.ring(job.pk, job.queue)
    return bool(asked)


def end_parked(job_ids: Collection[UUID], *, reason: str) -> set[UUID]:
    """End as cancelled those of the jobs that wait to be woken; return which.

    Nothing is under way for them, so no handler is asked: the caller has put the domain's rows
    right. Those who wait for such a job find out when they look, each second.
    """
    with transaction.atomic():
        parked = list(
            Job.objects.select_for_update()
            .filter(pk__in=job_ids, state=Job.State.QUEUED, lease_until=None, run_after=PARKED)
            .order_by("pk")
        )
        ended = {"state": Job.State.CANCELLED, "message": reason[:300]}
        Job.objects.filter(pk__in=[job.pk for job in parked]).update(finished_at=Now(), **ended)
        for job in parked:
            job.state = Job.State.CANCELLED
        publish_all(map(_changed, parked))
    return {job.pk for job in parked}


def cancel(actor: Actor, job: Job) -> Job:
    """Cancel a job at somebody's wish: one's own, or everybody's with the right to manage all VMs.

    Raises `Forbidden`, or `Conflict` when the job has ended or cannot be cancelled.
    """
    if job.actor_id != actor.user_id or not actor.can("vms.use"):
        actor.require("vms.manage_all")
    if not handler_of(job.kind).cancellable:
        raise Conflict("This kind of job cannot be cancelled: it ends by itself.")
    with transaction.atomic():
        if not request_cancel(job, reason=f"Cancelled by {actor.name}."):
            raise Conflict("This job has ended already.")
        data = {"subject": job.subject, "before": {"state": job.state}}
        audit(actor, "job.cancelled", f"job:{job.pk}", job.kind, data=data)
    return job


def record_done(
    kind: str,
    subject: str,
    actor: Actor,
    *,
    result: dict[str, Any] | None = None,
    message: str = "",
) -> Job:
    """Store the job of a verb that was finished within its request, so that every verb has one."""
    job = Job.objects.create(
        kind=kind,
        subject=subject,
        step="",
        state=Job.State.DONE,
        progress=100,
        result=result or {},
        message=message,
        actor=actor.user,
        token=actor.token,
        request_id=actor.request_id,
        finished_at=Now(),
    )
    announce(job)
    return job
