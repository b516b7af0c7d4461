"""The sweeper: returns the work of lost workers to the queue and rings bells that were lost."""

from __future__ import annotations

import structlog
from django.db import transaction
from django.db.models import Case, F, Value, When
from django.db.models.functions import Now

from jobs import bell
from jobs.claims import Fenced
from jobs.handlers import handler_of
from jobs.models import Job
from jobs.outcomes import Fail
from jobs.running import settle

log = structlog.get_logger(__name__)

BATCH = 500
OUTCOME_UNKNOWN = (
    "Outcome unknown: the worker was lost while the call was under way. It is not sent twice; "
    "look at the VM and ask again if needed."
)


def sweep() -> None:
    """Do one round. Safe to run twice at once."""
    for job in Job.objects.abandoned()[:BATCH]:
        _give_back(job)
    due = list(Job.objects.unheard().order_by("run_after").values_list("pk", "queue")[:BATCH])
    for job_id, queue in due:
        bell.ring(job_id, queue)


def _give_back(job: Job) -> None:
    if job.sending and handler_of(job.kind).lost == "ask":
        # A new fence first, so that the lost worker, should it wake, settles nothing.
        if Job.objects.abandoned().filter(pk=job.pk, fence=job.fence).update(fence=F("fence") + 1):
            job.fence += 1
            try:
                settle(job, Fail(OUTCOME_UNKNOWN))
            except Fenced:
                log.info("sweep.overtaken", job_id=str(job.pk))
        return
    with transaction.atomic():
        returned = (
            Job.objects.abandoned()
            .filter(pk=job.pk, fence=job.fence)
            .update(
                state=Case(
                    When(state=Job.State.CANCELLING, then=Value(Job.State.CANCELLING)),
                    default=Value(Job.State.QUEUED),
                ),
                lease_until=None,
                lane_slot=None,
                run_after=Now(),
                fence=F("fence") + 1,
            )
        )
        if returned:
            log.warning("sweep.returned", job_id=str(job.pk), kind=job.kind, step=job.step)
            bell.ring(job.pk, job.queue)
