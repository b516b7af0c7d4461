"""Running one job: claim a step, run it, settle what it returned; go on while it can."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import structlog
from django.conf import settings
from django.db import DatabaseError, InterfaceError, transaction
from django.db.models import Case, F, Value, When
from django.db.models.functions import Now

from jobs import bell
from jobs.claims import Claim, Fenced, claim, renewer
from jobs.handlers import handler_of
from jobs.models import Job, JobLine
from jobs.outcomes import Again, Cancelled, Done, Fail, Outcome
from jobs.queueing import PARKED, announce
from orchestrator.db.clock import from_now
from orchestrator.refusals import Refusal
from orchestrator.web import wake

if TYPE_CHECKING:
    from uuid import UUID

log = structlog.get_logger(__name__)

MAXIMUM_FAILURES = 8
INTERNAL_ERROR = "Something went wrong inside the product; its log tells more under this job's id."
SHORT_DELAY_SECONDS = 1.0  # shorter waits are rung by a delayed bell, longer ones by the sweeper


def run_job(job_id: UUID) -> None:
    """Run the job's due steps until it waits, ends, or needs the other queue."""
    held = claim(job_id)
    while held:
        structlog.contextvars.bind_contextvars(
            job_id=str(job_id), kind=held.job.kind, request_id=held.job.request_id
        )
        queue = held.job.queue
        try:
            with renewer.keeping(held):
                outcome = _run_step(held)
            held.die_here("settle")
            kept = settle(held.job, outcome, keep=True)
        except Fenced:
            log.warning("job.fenced", step=held.job.step)
            return
        finally:
            structlog.contextvars.unbind_contextvars("job_id", "kind", "request_id")
        if not isinstance(outcome, Again) or outcome.waits or held.job.queue != queue:
            return
        held = Claim(held.job) if kept else claim(job_id)


def _run_step(held: Claim) -> Outcome:
    handler = handler_of(held.job.kind)
    try:
        if held.job.state == Job.State.CANCELLING:
            return handler.cancel(held)
        return handler.run(held)
    except (Fenced, DatabaseError, InterfaceError):
        raise  # not ours any more, or the store is away: the sweeper returns it to the queue
    except Refusal as refusal:
        return Fail(refusal.message)
    except Exception:
        log.exception("job.step_failed", step=held.job.step)
        return Again(seconds=backoff(held.job.failures), failed=True, message=INTERNAL_ERROR)


def backoff(failures: int) -> float:
    """Return the pause in seconds before the next try: 1, 2, 4, … at most 30."""
    return float(min(30, 2**failures))


def settle(job: Job, outcome: Outcome, *, keep: bool = False) -> bool:
    """Write what a step returned, in one conditional UPDATE; raises `Fenced` when too late.

    With `keep`, a job that goes on at once, in the same queue and lane, is claimed for its next
    step by that same UPDATE. Returns whether it was.
    """
    kept = False
    if isinstance(outcome, Again) and outcome.failed and job.failures + 1 >= MAXIMUM_FAILURES:
        outcome = Fail(outcome.message or INTERNAL_ERROR)
    with transaction.atomic():
        # The domain's rows come first: every transaction locks them before the job's row.
        if not isinstance(outcome, Cancelled) and outcome.effect:
            outcome.effect()
        if isinstance(outcome, Again):
            kept = _continue(job, outcome, keep)
        else:
            _end(job, outcome)
    if job.is_final:
        wake.wake(f"job:{job.pk}")
    return kept


def _continue(job: Job, outcome: Again, keep: bool) -> bool:
    handler = handler_of(job.kind)
    step = outcome.step or job.step
    values: dict[str, Any] = {
        "step": step,
        "queue": Job.Queue.CALLS if step in handler.calls else Job.Queue.STEPS,
        "payload": {**job.payload, **outcome.payload},
        "progress": job.progress if outcome.progress is None else outcome.progress,
        "message": job.message if outcome.message is None else outcome.message[:300],
        "failures": job.failures + 1 if outcome.failed else (0 if outcome.step else job.failures),
        "lane": job.lane if outcome.lane is None else outcome.lane,
    }
    same = (values["queue"], values["lane"]) == (job.queue, job.lane)
    kept = keep and same and not outcome.waits and _keep(job, values)
    if not kept:
        _write(
            job,
            state=Case(
                When(state=Job.State.CANCELLING, then=Value(Job.State.CANCELLING)),
                default=Value(Job.State.QUEUED),
            ),
            run_after=_when(outcome),
            **values,
        )
    told = (values["progress"], values["message"]) != (job.progress, job.message)
    changed_queue = values["queue"] != job.queue
    for name, value in values.items():
        setattr(job, name, value)
    if told:
        announce(job)
    if outcome.parked:
        return kept
    if outcome.seconds and outcome.seconds < SHORT_DELAY_SECONDS:
        bell.ring(job.pk, job.queue, delay=outcome.seconds)
    elif not outcome.seconds and changed_queue:
        bell.ring(job.pk, job.queue)
    return kept


def _keep(job: Job, values: dict[str, Any]) -> bool:
    """Claim the job's next step while settling this one; False when it is to be cancelled now."""
    kept = Job.objects.filter(pk=job.pk, fence=job.fence, state=Job.State.RUNNING).update(
        fence=F("fence") + 1,
        lease_until=from_now(settings.JOB_LEASE_SECONDS),
        sending=False,
        run_after=Now(),
        **values,
    )
    if kept:
        job.fence += 1
    return bool(kept)


def _when(outcome: Again) -> Any:
    if outcome.parked:
        return PARKED
    return from_now(outcome.seconds) if outcome.seconds else Now()


def _end(job: Job, outcome: Done | Fail | Cancelled) -> None:
    if isinstance(outcome, Done):
        values: dict[str, Any] = {
            "state": Job.State.DONE,
            "progress": 100,
            "message": outcome.message[:300] or job.message,
            "result": outcome.result,
        }
    elif isinstance(outcome, Fail):
        values = {
            "state": Job.State.FAILED,
            "error": outcome.error,
            "result": outcome.result,
            "message": outcome.error[:300],
        }
    else:
        values = {
            "state": Job.State.CANCELLED,
            "message": outcome.message[:300] or job.message or "Cancelled.",
        }
    if isinstance(outcome, Fail):
        handler_of(job.kind).failed(job, outcome.error)
    elif isinstance(outcome, Cancelled):
        handler_of(job.kind).cancelled(job)
    _write(job, finished_at=Now(), **values)
    for name, value in values.items():
        setattr(job, name, value)
    if isinstance(outcome, Fail):
        JobLine.objects.create(job=job, text=outcome.error)
    announce(job)


def _write(job: Job, **values: Any) -> None:
    changed = Job.objects.filter(
        pk=job.pk, fence=job.fence, state__in=[Job.State.RUNNING, Job.State.CANCELLING]
    ).update(lease_until=None, sending=False, lane_slot=None, **values)
    if not changed:
        raise Fenced
