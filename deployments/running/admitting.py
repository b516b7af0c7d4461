"""Who may run now: limits that all tasks share, and what tasks keep for themselves.

One row is the gate: whoever admits holds it, so that no two count the same free place. It is taken
after the task's row, and nothing else is locked behind it but the job that an admitted step gets.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from django.conf import settings
from django.db.models import F, Q
from django.db.models.functions import Now

from accounts.actors import Actor
from deployments.models import Environment
from deployments.models.tasks import Block, Step, Task, TaskLock
from deployments.running import logs, rights
from deployments.running.moving import move
from deployments.running.policy import share_of
from deployments.states import StepState, TaskState
from hosts.models import Health
from jobs.queueing import enqueue, hurry
from orchestrator.db.models import RowLease
from vms.models import VirtualMachine
from vms.states import State

if TYPE_CHECKING:
    from collections.abc import Collection
    from uuid import UUID

GATE = "deployments"
STEP_KINDS = {False: "task.step", True: "task.safe_step"}  # by whether it may be repeated
WOKEN = 20  # tasks, when something became free
LOOKED_AT = 500  # steps of a task that wait, at a time
NO_PLACE = "All places for steps are taken."
# Blocks whose VMs are being changed, or were left half changed.
IN_THE_MIDDLE = ["executing", "failing", "failed", "aborting", "aborted", "stopped"]


def hold_gate() -> None:
    """Keep everybody else from admitting until the transaction ends."""
    RowLease.objects.get_or_create(name=GATE, defaults={"until": Now()})
    RowLease.objects.select_for_update().get(name=GATE)


def wake_others(task: Task) -> None:
    """Let the tasks that wait look again, because something became free."""
    waiting = (
        Task.objects.exclude(pk=task.pk)
        .filter(Q(state=TaskState.QUEUED) | Q(steps__state=StepState.QUEUED))
        .order_by("queued_at", "pk")
        .values_list("pk", flat=True)
        .distinct()[:WOKEN]
    )
    hurry([f"task:{pk}" for pk in waiting])


# Tasks -------------------------------------------------------------------------------------------


def why_not_task(task: Task) -> str:
    """Take what a whole task keeps, or return why it has to wait. Holds the gate."""
    hold_gate()
    running = Task.objects.running().exclude(pk=task.pk)
    if running.count() >= settings.DEPLOYMENT_MAX_TASKS:
        return f"{settings.DEPLOYMENT_MAX_TASKS} tasks run already, which is the limit."
    return _keep(task, None, _whole_task_subjects(task))


def _whole_task_subjects(task: Task) -> list[str]:
    """Return what no two tasks may have at once: an application on an environment."""
    if task.environment_id is None:
        return []
    base = f"environment:{task.environment_id}"
    if task.environment and task.environment.policy.get("exclusive"):
        return [base]
    parts = task.planned.get("parts", [])
    return sorted(f"application:{part['application_id']}@{task.environment_id}" for part in parts)


def _keep(task: Task, block: Block | None, subjects: Collection[str]) -> str:
    wanted = sorted(set(subjects))
    taken = TaskLock.objects.filter(subject__in=wanted).exclude(task=task)
    if found := taken.select_related("task").order_by("subject").first():
        return f"“{found.task.title}” has {_named(found.subject)} until it is done with it."
    mine = set(TaskLock.objects.filter(subject__in=wanted).values_list("subject", flat=True))
    TaskLock.objects.bulk_create(
        [TaskLock(subject=one, task=task, block=block) for one in wanted if one not in mine]
    )
    return ""


def _named(subject: str) -> str:
    noun, _, key = subject.partition(":")
    if noun == "vm":
        name = VirtualMachine.objects.filter(pk=key).values_list("name", flat=True).first()
        return name or "a VM"
    return "this application here" if noun == "application" else "this environment"


# Steps -------------------------------------------------------------------------------------------


def admit(task: Task) -> str:
    """Let the task's reached steps run, as far as limits and locks allow; else say why not.

    Returns why none of them may begin any more, whatever becomes free: the caller holds the task.
    What registers the changes that were made is no further change, and always may.
    """
    waiting = Step.objects.filter(task=task, state=StepState.QUEUED)
    if not waiting.exists():
        return ""
    hold_gate()
    if waiting.exclude(block__always=True).exists() and (why := rights.why_held(task)):
        return why
    free = _free_places(task)
    if free < 1:
        waiting.filter(reason="").update(reason=NO_PLACE)
        return ""
    unavailable = Unavailable(task)
    for step in waiting.select_related("block").order_by("number")[:LOOKED_AT]:
        why = NO_PLACE if free < 1 else unavailable.why_not(step)
        why = why or _keep(task, step.block, _vms_of(step.block))
        if why:
            if why != step.reason:
                Step.objects.filter(pk=step.pk).update(reason=why[:500])
            continue
        _run(task, step)
        unavailable.note(step)
        free -= 1
    return ""


def _free_places(task: Task) -> int:
    """Return how many more steps the task may run: fair shares, while others want places, too."""
    executing = Step.objects.filter(state=StepState.EXECUTING)
    limit = settings.DEPLOYMENT_MAX_STEPS
    free = limit - executing.count()
    others = (
        Step.objects.filter(state=StepState.QUEUED).exclude(task=task).values("task").distinct()
    ).count()
    if others:
        mine = executing.filter(task=task).count()
        free = min(free, max(1, limit // (others + 1)) - mine)
    return free


def _vms_of(leaf: Block) -> list[str]:
    """Return the VMs that a leaf's steps touch: all are kept from its first step to its end."""
    rows = Step.objects.filter(block=leaf, subject__startswith="vm:").order_by()
    return list(rows.values_list("subject", flat=True).distinct())


def _run(task: Task, step: Step) -> None:
    actor = Actor(user=task.started_by, token=task.started_with, address=task.address)
    job = enqueue(
        STEP_KINDS[step.repeatable],
        f"step:{step.pk}",
        actor,
        payload={"task": str(task.pk), "attempt": step.attempt + 1},
        message=step.text[:300],
    )
    move(
        Step.objects.filter(pk=step.pk),
        StepState.EXECUTING,
        expect=[StepState.QUEUED],
        attempt=F("attempt") + 1,
        retries=0,
        reason="",
        job=job,
        started_at=Now(),
        ended_at=None,
    )
    words = f"Attempt {step.attempt + 1} begins."
    logs.write(step.pk, step.attempt + 1, words, told=False)


def members_of(environment: Environment) -> set[UUID]:
    """Return the ids of the VMs that are members now, named or by a tag."""
    found = set(environment.members.exclude(vm=None).values_list("vm", flat=True))
    tags = set(environment.members.filter(noun="vm").exclude(tag="").values_list("tag", flat=True))
    if tags:
        rows = VirtualMachine.objects.open().exclude(tags=[]).values_list("pk", "tags")
        found |= {pk for pk, has in rows if tags & set(has)}
    return found


class Unavailable:
    """The VMs of a task's environment that are being changed or not well, by all tasks."""

    def __init__(self, task: Task) -> None:
        environment = task.environment
        wanted = environment.policy.get("max_unavailable") if environment else None
        self.maximum: int | None = None
        if environment is None or wanted is None:
            return
        members = members_of(environment)
        self.maximum = max(1, share_of(wanted, len(members)))
        changing = Step.objects.filter(
            task__environment=environment,
            block__state__in=IN_THE_MIDDLE,
            subject__startswith="vm:",
            state__in=[StepState.EXECUTING, StepState.DONE, StepState.FAILED],
        ).exclude(task__state__in=TaskState.final())
        self.subjects = set(changing.values_list("subject", flat=True).distinct())
        unwell = VirtualMachine.objects.filter(pk__in=members, desired_state="running").filter(
            ~Q(state=State.RUNNING) | Q(host__status__health=Health.UNREACHABLE)
        )
        self.subjects |= {f"vm:{pk}" for pk in unwell.values_list("pk", flat=True)}

    def why_not(self, step: Step) -> str:
        if self.maximum is None or not step.subject.startswith("vm:"):
            return ""
        if step.subject in self.subjects or len(self.subjects) < self.maximum:
            return ""
        return (
            f"{len(self.subjects)} VMs of this environment are being changed or not well, and it "
            f"lets {self.maximum} be at once."
        )

    def note(self, step: Step) -> None:
        if self.maximum is not None and step.subject.startswith("vm:"):
            self.subjects.add(step.subject)
