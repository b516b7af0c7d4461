"""A plan being run: task, blocks, steps, their log, and what they keep for themselves."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING

from django.conf import settings
from django.db import models
from django.db.models import OuterRef, Q, Subquery
from django.db.models.functions import Now
from django.utils import timezone

from deployments.models.environments import Environment
from deployments.models.packages import Package
from deployments.states import BlockState, StepState, TaskState
from orchestrator.db.models import BaseModel

if TYPE_CHECKING:
    from accounts.actors import Actor


class TaskQuerySet(models.QuerySet["Task"]):
    def open(self) -> TaskQuerySet:
        return self.exclude(state__in=TaskState.final())

    def running(self) -> TaskQuerySet:
        return self.filter(state__in=TaskState.running())

    def beyond_retention(self) -> TaskQuerySet:
        """Return archived tasks that are old enough to be forgotten."""
        before = timezone.now() - timedelta(days=settings.DEPLOYMENT_RETENTION_DAYS)
        return self.filter(state__in=TaskState.final(), finished_at__lt=before)

    def visible_to(self, actor: Actor) -> TaskQuerySet:
        return self if actor.can("deployments.view") else self.filter(owner=actor.user_id)

    def for_page(self) -> TaskQuerySet:
        """Return tasks with what a list shows of them, and how many of their steps are done."""
        root = Block.objects.filter(task=OuterRef("pk"), parent=None)
        return self.select_related(
            "owner", "started_by", "environment", "package__application", "rolled_back_by"
        ).annotate(
            steps_done=Subquery(root.values("steps_done")[:1]),
            steps_total=Subquery(root.values("steps_total")[:1]),
        )


class Task(BaseModel):
    """One plan, from its making to the archive. Moved by `deployments.running.moving` only."""

    class Kind(models.TextChoices):
        INITIAL = "initial", "Initial deployment"
        UPDATE = "update"
        UNDEPLOYMENT = "undeployment"
        ROLLBACK = "rollback"

    class Intent(models.TextChoices):
        RUN = ""
        STOP = "stop"  # what runs ends, nothing new starts
        ABORT = "abort"  # what runs is interrupted

    kind = models.CharField(max_length=12, choices=Kind.choices)
    title = models.CharField(max_length=300)
    environment = models.ForeignKey(
        Environment, on_delete=models.SET_NULL, null=True, related_name="tasks"
    )
    package = models.ForeignKey(Package, on_delete=models.SET_NULL, null=True, related_name="tasks")
    state = models.CharField(max_length=12, choices=TaskState.choices, default=TaskState.REGISTERED)
    intent = models.CharField(max_length=5, choices=Intent.choices, default="", blank=True)
    reason = models.CharField(max_length=500, blank=True)  # why it waits, or rests
    # As it was when the task was made: limits, gates, approvals, what a failure means.
    policy = models.JSONField(default=dict)
    # `deployments.prepared.Prepared.as_json()`: what is recorded, and taken back.
    planned = models.JSONField(default=dict)
    asked = models.JSONField(default=dict)  # with which words; they are planned again at the start
    fingerprint = models.CharField(max_length=64, blank=True)
    rollback_of = models.OneToOneField(
        "self", on_delete=models.SET_NULL, null=True, related_name="rolled_back_by"
    )
    owner = models.ForeignKey(
        settings.AUTH_USER_MODEL, on_delete=models.SET_NULL, null=True, related_name="+"
    )
    # Whoever started or continued it last: its steps act as this account, with this token.
    started_by = models.ForeignKey(
        settings.AUTH_USER_MODEL, on_delete=models.SET_NULL, null=True, related_name="+"
    )
    started_with = models.ForeignKey(
        "accounts.ApiToken", on_delete=models.SET_NULL, null=True, related_name="+"
    )
    address = models.CharField(max_length=60, blank=True)
    scheduled_for = models.DateTimeField(null=True)  # when its start is tried, the next time
    due_at = models.DateTimeField(null=True)  # for which time it was scheduled
    job = models.ForeignKey("jobs.Job", on_delete=models.SET_NULL, null=True, related_name="+")
    runs = models.PositiveIntegerField(default=0)  # how often it was started or continued
    queued_at = models.DateTimeField(null=True)
    started_at = models.DateTimeField(null=True)  # for the first time
    ended_at = models.DateTimeField(null=True)  # came to rest, for now
    finished_at = models.DateTimeField(null=True)  # archived

    objects = TaskQuerySet.as_manager()

    class Meta:
        indexes = [
            models.Index(
                fields=["state"],
                name="task_open",
                condition=~Q(state__in=["done", "cancelled"]),
            ),
            models.Index(fields=["environment", "-id"], name="task_environment"),
        ]

    def __str__(self) -> str:
        return self.title

    @property
    def subject(self) -> str:
        return f"task:{self.pk}"

    @property
    def name(self) -> str:
        return self.title

    @property
    def is_final(self) -> bool:
        return self.state in TaskState.final()

    @property
    def is_running(self) -> bool:
        return self.state in TaskState.running()


class Block(BaseModel):
    """A node of the plan: a leaf, which holds steps, or a composite, which holds blocks."""

    class Kind(models.TextChoices):
        INTERLEAVED = "interleaved"
        SERIAL = "serial"
        PARALLEL = "parallel"

    task = models.ForeignKey(Task, on_delete=models.CASCADE, related_name="blocks")
    parent = models.ForeignKey("self", on_delete=models.CASCADE, null=True, related_name="children")
    position = models.PositiveIntegerField()  # from 1, among its siblings
    path = models.CharField(max_length=200)
    kind = models.CharField(max_length=11, choices=Kind.choices)
    label = models.CharField(max_length=500)
    made_by = models.CharField(max_length=200, blank=True)
    key = models.CharField(max_length=300, blank=True)
    state = models.CharField(max_length=9, choices=BlockState.choices, default=BlockState.PENDING)
    # Runs even when the task is cancelled (the books), so none of its steps can be skipped.
    always = models.BooleanField(default=False)
    tolerated = models.BooleanField(default=False)  # failed, and the policy lets it be
    steps_total = models.PositiveIntegerField(default=0)
    steps_done = models.PositiveIntegerField(default=0)
    started_at = models.DateTimeField(null=True)
    ended_at = models.DateTimeField(null=True)

    class Meta:
        ordering = ["position"]
        constraints = [models.UniqueConstraint(fields=["task", "path"], name="block_path")]

    def __str__(self) -> str:
        return self.label

    @property
    def is_leaf(self) -> bool:
        return self.kind == self.Kind.INTERLEAVED

    @property
    def shown_key(self) -> str:
        """What people are shown of its key: a container is in the label by its name already."""
        return "" if self.key.startswith(("vm:", "host:")) else self.key


class Step(BaseModel):
    """One thing to do. Its path is its block's path and its position."""

    task = models.ForeignKey(Task, on_delete=models.CASCADE, related_name="steps")
    block = models.ForeignKey(Block, on_delete=models.CASCADE, related_name="steps")
    position = models.PositiveIntegerField()  # from 1, in its block
    number = models.PositiveIntegerField()  # from 1, in the whole plan
    order = models.IntegerField()
    text = models.CharField(max_length=500)
    action = models.JSONField(default=dict)  # references to secrets, never a secret
    kind = models.CharField(max_length=30)
    subject = models.CharField(max_length=80, blank=True)  # `vm:<id>`, `host:<id>`: acts on it
    deployeds = models.JSONField(default=list)
    checkpoint = models.BooleanField(default=False)
    repeatable = models.BooleanField(default=False)  # after a lost worker it may run again
    state = models.CharField(max_length=9, choices=StepState.choices, default=StepState.PENDING)
    interrupted = models.BooleanField(default=False)  # failed because it was aborted
    failures = models.PositiveIntegerField(default=0)
    attempt = models.PositiveIntegerField(default=0)
    retries = models.PositiveIntegerField(default=0)  # in this attempt, asked for by the step
    reason = models.CharField(max_length=500, blank=True)  # why it waits, paused or failed
    result = models.JSONField(default=dict)
    job = models.ForeignKey("jobs.Job", on_delete=models.SET_NULL, null=True, related_name="+")
    queued_at = models.DateTimeField(null=True)
    started_at = models.DateTimeField(null=True)
    ended_at = models.DateTimeField(null=True)

    class Meta:
        ordering = ["number"]
        indexes = [
            models.Index(fields=["block", "position"], name="step_in_block"),
            models.Index(fields=["task", "number"], name="step_in_task"),
            models.Index(
                fields=["state"], name="step_active", condition=Q(state__in=["queued", "executing"])
            ),
        ]

    def __str__(self) -> str:
        return self.text

    @property
    def path(self) -> str:
        """Return the step's path; needs its block."""
        return f"{self.block.path}_{self.position}"


class StepLog(models.Model):
    """One line of the log of a step's attempt."""

    step = models.ForeignKey(Step, on_delete=models.CASCADE, related_name="lines")
    attempt = models.PositiveIntegerField()
    at = models.DateTimeField(db_default=Now())
    text = models.TextField()

    class Meta:
        ordering = ["id"]
        indexes = [models.Index(fields=["step", "attempt", "id"], name="step_log_attempt")]

    def __str__(self) -> str:
        return self.text


class TaskNote(models.Model):
    """Who did what to a task, and what it came to: the lines of its report."""

    task = models.ForeignKey(Task, on_delete=models.CASCADE, related_name="notes")
    at = models.DateTimeField(db_default=Now())
    verb = models.CharField(max_length=40)
    who = models.CharField(max_length=150)
    text = models.CharField(max_length=500, blank=True)

    class Meta:
        ordering = ["id"]

    def __str__(self) -> str:
        return f"{self.verb} {self.text}"


class TaskLock(models.Model):
    """A VM or an environment that a task keeps for itself; for one leaf, or all of it."""

    subject = models.CharField(max_length=120, primary_key=True)
    task = models.ForeignKey(Task, on_delete=models.CASCADE, related_name="locks")
    block = models.ForeignKey(Block, on_delete=models.CASCADE, null=True, related_name="locks")

    def __str__(self) -> str:
        return self.subject
