from __future__ import annotations

from typing import TYPE_CHECKING

from django.conf import settings
from django.db import models
from django.db.models import F, Q
from django.db.models.functions import Coalesce, Now

from orchestrator.db.clock import from_now
from orchestrator.db.models import BaseModel

if TYPE_CHECKING:
    from collections.abc import Collection
    from uuid import UUID

    from accounts.actors import Actor

RING_AGAIN_SECONDS = 5  # how long a bell may stay unanswered before the sweeper rings again


class JobQuerySet(models.QuerySet["Job"]):
    def open(self) -> JobQuerySet:
        return self.exclude(state__in=Job.State.final())

    def visible_to(self, actor: Actor) -> JobQuerySet:
        return self if actor.can("jobs.view_all") else self.filter(actor=actor.user)

    def about(self, subject: str) -> JobQuerySet:
        return self.filter(subject=subject)

    def claimable(self) -> JobQuerySet:
        """Return jobs that wait for a worker and whose time has come."""
        return self.filter(
            state__in=[Job.State.QUEUED, Job.State.CANCELLING],
            lease_until=None,
            run_after__lte=Now(),
        )

    def unheard(self) -> JobQuerySet:
        """Return claimable jobs whose bell was not rung since they became due, or was lost."""
        return self.claimable().filter(
            Q(rung_at=None)
            | Q(rung_at__lt=F("run_after"))
            | Q(rung_at__lt=from_now(-RING_AGAIN_SECONDS))
        )

    def abandoned(self) -> JobQuerySet:
        """Return jobs whose worker let its lease run out."""
        return self.open().filter(lease_until__lte=Now())

    def which_let_go(self, ids: Collection[UUID], sent_once: Collection[str]) -> set[UUID]:
        """Return those of `ids` that nobody need wait for any longer.

        They have ended; or are asked to stop and of the kinds `sent_once`, whose call on the host
        goes on to its own end, while whoever waits for it may have lost the right to.
        """
        over = Q(state__in=Job.State.final()) | Q(state=Job.State.CANCELLING, kind__in=sent_once)
        return set(self.filter(over, pk__in=ids).values_list("pk", flat=True))

    def for_page(self) -> JobQuerySet:
        return self.select_related("actor", "token")


class Job(BaseModel):
    """One durable piece of work, done in steps, each claimed by one worker.

    queued → running → queued … → done | failed | cancelled. A job that is asked to stop is
    `cancelling` until its handler has undone what is under way. Every write of a worker names the
    fence of its claim, so that a worker that was given up changes nothing.
    """

    class State(models.TextChoices):
        QUEUED = "queued"
        RUNNING = "running"
        CANCELLING = "cancelling"
        DONE = "done"
        FAILED = "failed"
        CANCELLED = "cancelled"

        @classmethod
        def final(cls) -> list[str]:
            return [cls.DONE, cls.FAILED, cls.CANCELLED]

    class Queue(models.TextChoices):
        STEPS = "steps"  # never waits for a host
        CALLS = "calls"  # may block on a host

    kind = models.CharField(max_length=60)
    subject = models.CharField(max_length=80)
    state = models.CharField(max_length=12, choices=State.choices, default=State.QUEUED)
    payload = models.JSONField(default=dict)  # ids and options, never a secret
    step = models.CharField(max_length=40)
    queue = models.CharField(max_length=8, choices=Queue.choices, default=Queue.STEPS)
    # Open calls of one lane (a host) are limited: a claim of a call takes a free slot of it.
    lane = models.CharField(max_length=60, default="", blank=True)
    lane_slot = models.PositiveSmallIntegerField(null=True)
    unique_key = models.CharField(max_length=120, null=True)  # noqa: DJ001 - null is not a key
    fence = models.PositiveIntegerField(default=0)
    failures = models.PositiveSmallIntegerField(default=0)
    sending = models.BooleanField(default=False)  # a call may be under way, its answer unknown
    lease_until = models.DateTimeField(null=True)
    run_after = models.DateTimeField(db_default=Now())
    rung_at = models.DateTimeField(null=True)
    progress = models.PositiveSmallIntegerField(default=0)
    message = models.CharField(max_length=300, default="", blank=True)
    result = models.JSONField(default=dict)
    error = models.TextField(default="", blank=True)
    actor = models.ForeignKey(
        settings.AUTH_USER_MODEL, on_delete=models.SET_NULL, null=True, related_name="+"
    )
    token = models.ForeignKey(
        "accounts.ApiToken", on_delete=models.SET_NULL, null=True, related_name="+"
    )
    parent = models.ForeignKey("self", on_delete=models.CASCADE, null=True, related_name="children")
    request_id = models.CharField(max_length=64, default="", blank=True)
    # What another server that asked for it calls it. Told back to that account; never ours.
    external_id = models.CharField(max_length=64, default="", blank=True)
    dismissed_at = models.DateTimeField(null=True)  # off the list of the compatible API
    finished_at = models.DateTimeField(null=True)

    objects = JobQuerySet.as_manager()

    class Meta:
        indexes = [
            models.Index(
                fields=["run_after"],
                name="job_waiting",
                condition=Q(state__in=["queued", "cancelling"]),
            ),
            models.Index(
                fields=["lease_until"], name="job_leased", condition=Q(lease_until__isnull=False)
            ),
            models.Index(fields=["subject", "-id"], name="job_subject"),
            models.Index(fields=["actor", "-id"], name="job_actor"),
            models.Index(fields=["external_id"], name="job_external", condition=~Q(external_id="")),
        ]
        constraints = [
            models.UniqueConstraint(
                fields=["unique_key"],
                name="job_open_once",
                condition=Q(state__in=["queued", "running", "cancelling"]),
            ),
            models.UniqueConstraint(
                fields=["lane", "lane_slot"],
                name="job_lane_slot",
                condition=Q(lane_slot__isnull=False),
            ),
        ]

    def __str__(self) -> str:
        return f"{self.kind} {self.subject}"

    @property
    def is_final(self) -> bool:
        return self.state in self.State.final()

    @property
    def subject_id(self) -> str:
        return self.subject.partition(":")[2]


class JobLine(models.Model):
    """One line of a job's log."""

    job = models.ForeignKey(Job, on_delete=models.CASCADE, related_name="lines")
    at = models.DateTimeField(db_default=Now())
    text = models.TextField()

    class Meta:
        ordering = ["id"]

    def __str__(self) -> str:
        return self.text


# What became of an item: its job's state, or else why it has none.
OUTCOME = Coalesce("job__state", "state")


class BatchItemQuerySet(models.QuerySet["BatchItem"]):
    def with_outcome(self) -> BatchItemQuerySet:
        """Return the items with their `outcome`."""
        return self.annotate(outcome=OUTCOME)

    def which_are(self, *outcomes: str) -> BatchItemQuerySet:
        return self.annotate(outcome=OUTCOME).filter(outcome__in=outcomes)

    def tally(self) -> dict[str, int]:
        """Return how many items have which outcome."""
        found = self.order_by().annotate(outcome=OUTCOME)
        return dict(found.values_list("outcome").annotate(models.Count("pk")))


class BatchItem(BaseModel):
    """One thing that a batch acts on, and what became of it."""

    class State(models.TextChoices):
        WAITING = "waiting"
        STARTED = "started"  # the job tells more
        REFUSED = "refused"
        DROPPED = "dropped"  # the batch was cancelled first

    batch = models.ForeignKey(Job, on_delete=models.CASCADE, related_name="items")
    subject = models.CharField(max_length=80)
    name = models.CharField(max_length=200)
    state = models.CharField(max_length=8, choices=State.choices, default=State.WAITING)
    # Not always a child of the batch: a VM that was being deleted already has that one job.
    job = models.ForeignKey(Job, on_delete=models.SET_NULL, null=True, related_name="+")
    error = models.TextField(default="", blank=True)  # why it was refused

    objects = BatchItemQuerySet.as_manager()

    class Meta:
        constraints = [models.UniqueConstraint(fields=["batch", "subject"], name="batch_item_once")]
        indexes = [
            models.Index(fields=["batch"], name="batch_item_waiting", condition=Q(state="waiting"))
        ]

    def __str__(self) -> str:
        return self.name
