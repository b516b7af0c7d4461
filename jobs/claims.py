"""A worker's hold on one step of a job."""

from __future__ import annotations

import os
import signal
import threading
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import structlog
from django.conf import settings
from django.db import IntegrityError, connection, transaction
from django.db.models import F

from jobs.models import Job, JobLine
from jobs.queueing import announce
from orchestrator.db.clock import from_now

if TYPE_CHECKING:
    from collections.abc import Iterator
    from uuid import UUID

log = structlog.get_logger(__name__)
LANE_WAIT_SECONDS = 0.5


class Fenced(Exception):
    """Another worker has the job now: stop, and write nothing more."""


@dataclass
class Claim:
    """One claimed step. Every write goes through it and names its fence."""

    job: Job
    lost: threading.Event = field(default_factory=threading.Event)

    def _update(self, **values: object) -> None:
        changed = Job.objects.filter(
            pk=self.job.pk,
            fence=self.job.fence,
            state__in=[Job.State.RUNNING, Job.State.CANCELLING],
        ).update(**values)
        if not changed:
            raise Fenced

    def renew(self) -> None:
        """Hold the job for another lease; raises `Fenced` when it was given to another worker."""
        try:
            self._update(lease_until=from_now(settings.JOB_LEASE_SECONDS))
        except Fenced:
            self.lost.set()
            raise

    def note(self, message: str, progress: int | None = None, **more: object) -> None:
        """Show where the work stands: a message, and percent done. Write `more` with it."""
        if not more and message == self.job.message and progress in (None, self.job.progress):
            return
        with transaction.atomic():
            self.job.message = message[:300]
            if progress is not None:
                self.job.progress = progress
            self._update(message=self.job.message, progress=self.job.progress, **more)
            announce(self.job)

    def log(self, text: str) -> None:
        """Add a line to the job's log."""
        JobLine.objects.create(job=self.job, text=text)

    def remember(self, **payload: object) -> None:
        """Merge into the job's payload now, before what follows may fail."""
        self.job.payload = {**self.job.payload, **payload}
        self._update(payload=self.job.payload)

    @contextmanager
    def sending(self, message: str = "", progress: int | None = None) -> Iterator[None]:
        """Store the intent, check the fence and renew the lease; then send within the block.

        A worker that is lost inside the block leaves the mark, which tells the sweeper that the
        host may have heard the call. With a message, it is shown while the call is under way.
        """
        intent = {"sending": True, "lease_until": from_now(settings.JOB_LEASE_SECONDS)}
        if message:
            self.note(message, progress, **intent)
        else:
            self._update(**intent)
        self.die_here("before")
        yield
        self.die_here("after")

    def die_here(self, moment: str) -> None:
        """For the tests of faults: kill this process if `JOBS_DIE_AT` names this moment.

        Moments of a step are `before` and `after` its call, and `settle`, when it has run.
        """
        if f"{self.job.kind}:{self.job.step}:{moment}" == settings.JOBS_DIE_AT:
            log.warning("jobs.dying_for_a_test", at=settings.JOBS_DIE_AT)
            os.kill(os.getpid(), signal.SIGKILL)


def claim(job_id: UUID) -> Claim | None:
    """Claim the job's next step for this worker; None when it is not due or somebody has it."""
    job = Job.objects.claimable().filter(pk=job_id).first()
    if job is None:
        return None
    running = Job.State.RUNNING if job.state == Job.State.QUEUED else job.state
    limited = job.queue == Job.Queue.CALLS and job.lane
    slots: list[int | None] = _free_slots(job.lane) if limited else [None]
    for slot in slots:
        try:
            # What was read is what is claimed: whoever changes more of a job that waits changes its
            # fence or its state.
            claimed = (
                Job.objects.claimable()
                .filter(pk=job_id, fence=job.fence, state=job.state)
                .update(
                    state=running,
                    fence=F("fence") + 1,
                    lease_until=from_now(settings.JOB_LEASE_SECONDS),
                    lane_slot=slot,
                )
            )
        except IntegrityError:
            continue  # another call took this slot of the lane
        if not claimed:
            return None
        job.fence, job.state, job.lane_slot = job.fence + 1, running, slot
        return Claim(job)
    # The lane is full: look again soon, without a message for every look.
    Job.objects.claimable().filter(pk=job_id).update(run_after=from_now(LANE_WAIT_SECONDS))
    return None


def _free_slots(lane: str) -> list[int | None]:
    taken = set(
        Job.objects.filter(lane=lane, lane_slot__isnull=False).values_list("lane_slot", flat=True)
    )
    return [number for number in range(settings.HOST_MAX_CALLS) if number not in taken]


class Renewer:
    """One thread per process that renews the leases of the claims in work."""

    def __init__(self) -> None:
        self._by_id: dict[int, Claim] = {}
        self._lock = threading.Lock()
        self._thread: threading.Thread | None = None

    @contextmanager
    def keeping(self, held: Claim) -> Iterator[None]:
        """Renew `held` as long as the block runs."""
        with self._lock:
            self._by_id[id(held)] = held
            if self._thread is None or not self._thread.is_alive():
                self._thread = threading.Thread(target=self._run, name="lease-renewer", daemon=True)
                self._thread.start()
        try:
            yield
        finally:
            with self._lock:
                self._by_id.pop(id(held), None)

    def _run(self) -> None:
        pause = threading.Event()
        while True:
            pause.wait(settings.JOB_LEASE_SECONDS / 3)
            with self._lock:
                held = list(self._by_id.values())
            if not held:
                connection.close()
                continue
            for one in held:
                try:
                    one.renew()
                except Fenced:
                    log.warning("job.lease_lost", job_id=str(one.job.pk))
                except Exception:  # the database may be away for a moment: try at the next turn
                    log.exception("job.renew_failed", job_id=str(one.job.pk))
            connection.close()


renewer = Renewer()
