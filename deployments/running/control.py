"""What people do with a task: start, stop, abort, cancel, roll back, archive."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

from django.conf import settings
from django.db import transaction
from django.db.models.functions import Now

from accounts.actors import Actor
from accounts.audit import audit
from deployments import environments, specs
from deployments.models import Package
from deployments.models.tasks import Block, Step, Task, TaskLock
from deployments.running import admitting, reverts, rights
from deployments.running.actions import books
from deployments.running.advancing import advance, interrupt
from deployments.running.building import build
from deployments.running.moving import announce, locked, move_task, note
from deployments.running.policy import whole_plan
from deployments.states import StepState, TaskState
from jobs.models import Job
from jobs.queueing import enqueue, hurry, record_done, request_cancel
from orchestrator.refusals import Conflict, Invalid, Refusal

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping

    from deployments.prepared import Prepared

VERB = "task.control"  # the kind of the jobs of verbs that are done at once
KINDS = {
    "initial": Task.Kind.INITIAL,
    "update": Task.Kind.UPDATE,
    "undeploy": Task.Kind.UNDEPLOYMENT,
    "rollback": Task.Kind.ROLLBACK,
}
STARTABLE = [TaskState.PENDING, TaskState.SCHEDULED, *TaskState.resumable()]


def create(actor: Actor, prepared: Prepared, *, asked: Mapping[str, Any] | None = None) -> Task:
    """Store what was prepared as a task, which is then pending.

    `asked` are the words with which it was prepared (`specs.prepare`): with them the first start
    checks that the same would be planned still. Raises `Forbidden`, `Invalid`, `Conflict`.
    """
    environment = environments.fresh(prepared.environment_id)
    rights.require_run(actor, environment)
    with transaction.atomic():
        actor.take()
        rights.take_run(actor, environment)
        task = Task.objects.create(
            kind=KINDS[prepared.kind],
            title=prepared.title,
            environment=environment,
            package=_package_of(prepared),
            policy=dict(prepared.policy),
            planned=prepared.as_json(),
            asked=dict(asked or {}),
            fingerprint=prepared.fingerprint,
            owner=actor.user,
        )
        build(task, whole_plan(prepared))
        move_task(task, TaskState.PENDING, expect=[TaskState.REGISTERED])
        told(actor, task, "created", f"{task.get_kind_display()}, plan {task.fingerprint[:12]}")
    return task


def _package_of(prepared: Prepared) -> Package | None:
    """Return the version that is deployed, or that goes."""
    first = prepared.parts[0] if prepared.parts else None
    pk = (first.package or first.previous) if first else None
    return Package.objects.filter(pk=pk).first() if pk else None


def start(actor: Actor, task: Task) -> Job:
    """Start a task, or let it go on: what failed or paused runs again. Returns its job.

    Its steps act as `actor` from now on. A scheduled one runs now, its schedule is gone. The first
    start checks that nothing changed since it was planned. Raises `Forbidden`, or `Conflict`.
    """
    rights.require_task(actor, task)
    if task.runs == 0:
        require_unchanged(actor, task)
    with transaction.atomic():
        actor.take()
        task = locked(task.pk)
        rights.take_task(actor, task)
        continued = task.runs > 0
        job = queue(actor, task)
        told(actor, task, "continued" if continued else "started")
    return job


def queue(actor: Actor, task: Task) -> Job:
    """Move a task that rests to QUEUED, with the job that drives it."""
    if task.state not in STARTABLE:
        raise Conflict(f"This task is {task.state}; it can be started when it rests or is pending.")
    if settings.DEPLOYMENT_MAINTENANCE:
        raise Conflict("Deployments are in maintenance: no task may start now. Try again later.")
    job = enqueue("task.run", task.subject, actor, message=f"Starting: {task.title}"[:300])
    move_task(
        task,
        TaskState.QUEUED,
        expect=STARTABLE,
        started_by=actor.user,
        started_with=actor.token,
        address=actor.address,
        scheduled_for=None,
        due_at=None,
        reason="",
        intent="",
        job=job,
        runs=task.runs + 1,
        queued_at=Now(),
        ended_at=None,
    )
    return job


def require_unchanged(actor: Actor, task: Task) -> None:
    """Raise `Conflict` when planning the same now would give something else."""
    if task.planned.get("options", {}).get(specs.BY) == specs.SNAPSHOTS and task.rollback_of:
        reverts.of(task.rollback_of, beside=task)
    if not task.asked:
        return
    now = specs.prepare(actor=actor, **_asked(task))
    if now.fingerprint != task.fingerprint:
        raise Conflict(
            "Something has changed since this was planned: the package, the environment, what is "
            "deployed there, or a dictionary. Cancel the task and plan it anew.",
            code="plan_changed",
        )


def _asked(task: Task) -> dict[str, Any]:
    from deployments.models import Application

    asked = dict(task.asked)
    asked["environment"] = task.environment
    for name, model in {"package": Package, "application": Application}.items():
        if asked.get(name):
            asked[name] = model._default_manager.get(pk=asked[name])
    return asked


def starter_of(task: Task) -> Actor:
    """Return whoever started or scheduled the task last, with their rights as they are now."""
    return Actor(user=task.started_by, token=task.started_with, address=task.address)


def stop(actor: Actor, task: Task) -> Job:
    """Stop gracefully: running steps end, nothing new starts. One that waits for its turn rests."""
    rights.require_control(actor, task)
    with transaction.atomic():
        actor.take()
        task = locked(task.pk)
        if task.state == TaskState.QUEUED:
            move_task(task, TaskState.STOPPED, expect=[TaskState.QUEUED], reason="", ended_at=Now())
        elif task.state != TaskState.EXECUTING:
            raise Conflict(f"This task is {task.state}; only one that executes can be stopped.")
        else:
            _intend(task, Task.Intent.STOP)
        return told(actor, task, "stopped")


def abort(actor: Actor, task: Task) -> Job:
    """Interrupt the running steps: they fail, and the task is aborted."""
    rights.require_control(actor, task)
    with transaction.atomic():
        actor.take()
        task = locked(task.pk)
        if task.state not in (TaskState.EXECUTING, TaskState.FAILING, TaskState.STOPPING):
            raise Conflict(f"This task is {task.state}; only one that executes can be aborted.")
        _intend(task, Task.Intent.ABORT)
        return told(actor, task, "aborted")


def _intend(task: Task, intent: Task.Intent) -> None:
    Task.objects.filter(pk=task.pk).update(intent=intent)
    task.intent = intent
    advance(task)
    hurry([task.subject])


def cancel(actor: Actor, task: Task) -> Job:
    """Give a task up. What was done so far is registered, and stays as it is.

    A pending one is removed without a trace but the audit's. Raises `Conflict` while it runs.
    """
    rights.require_control(actor, task)
    with transaction.atomic():
        actor.take()
        task = locked(task.pk)
        if task.state == TaskState.PENDING:
            job = told(actor, task, "removed")
            task.delete()
            return job
        if task.state not in (TaskState.SCHEDULED, *TaskState.resumable()):
            raise Conflict(f"This task is {task.state}; stop or abort it first, or archive it.")
        if task.runs:
            _register(task)
        _finish(task, TaskState.CANCELLED, [task.state])
        return told(actor, task, "cancelled")


def force_cancel(actor: Actor, task: Task) -> Job:
    """Cancel a task that is stuck, whatever it does: what cannot be registered is left out."""
    rights.require_force(actor, task)
    with transaction.atomic():
        actor.take()
        task = locked(task.pk)
        if task.is_final or task.state == TaskState.EXECUTED:
            raise Conflict(f"This task is {task.state}; there is nothing to force.")
        if task.state == TaskState.PENDING:
            return cancel(actor, task)
        interrupt(task, "The task was cancelled by force.")
        if task.job:
            request_cancel(task.job, reason="The task was cancelled by force.")
        before = task.state
        try:
            with transaction.atomic():
                if task.runs:
                    _register(task)
        except Refusal as refusal:
            note(task, "register", "orchestrator", f"Not registered: {refusal.message}")
        _finish(task, TaskState.CANCELLED, [before])
        return told(actor, task, "cancelled by force")


def _register(task: Task) -> None:
    """Do the steps that run whatever happens: the books."""
    text = books.keep(task)
    rows = Step.objects.filter(task=task, block__always=True)
    rows.exclude(state=StepState.DONE).update(
        state=StepState.DONE, reason=text[:500], started_at=Now(), ended_at=Now()
    )
    Block.objects.filter(task=task, always=True).update(
        state=StepState.DONE, steps_done=1, started_at=Now(), ended_at=Now()
    )
    note(task, "registered", "orchestrator", text)


def _finish(task: Task, to: TaskState, expect: Collection[str]) -> None:
    move_task(task, to, expect=expect, finished_at=Now(), scheduled_for=None, intent="")
    TaskLock.objects.filter(task=task).delete()
    admitting.wake_others(task)


def archive(actor: Actor, task: Task) -> Job:
    """Archive a task that has executed: it is done, and can no longer be rolled back."""
    rights.require_control(actor, task)
    with transaction.atomic():
        actor.take()
        task = locked(task.pk)
        if task.state != TaskState.EXECUTED:
            raise Conflict(f"This task is {task.state}; only one that has executed is archived.")
        _finish(task, TaskState.DONE, [TaskState.EXECUTED])
        return told(actor, task, "archived")


def roll_back(actor: Actor, task: Task, *, by: str = specs.STEPS, by_policy: bool = False) -> Job:
    """Make the task that takes this one back, and finish this one.

    What this one did is registered first; only that is taken back: `by` inverse `steps`, or by the
    `snapshots` that it took, which loses what was written since. The new task is pending; the job's
    result has its id as `task`. One that the policy asked for (`by_policy`) waits for no approval:
    that was given with the policy. Raises `Forbidden`, `Conflict`.
    """
    rights.require_task(actor, task)
    rights.require_run(actor, task.environment)
    with transaction.atomic():
        actor.take()
        task = locked(task.pk)
        prepared = _taking_back(actor, task, by)
        if by_policy:
            kept = {name: one for name, one in prepared.policy.items() if name != "approvals"}
            prepared = replace(prepared, policy=kept)
        back = create(actor, prepared)
        Task.objects.filter(pk=back.pk).update(rollback_of=task)
        for warning in prepared.warnings if by == specs.SNAPSHOTS else ():
            note(back, "warned", "orchestrator", warning.text)
        executed = task.state == TaskState.EXECUTED
        _finish(task, TaskState.DONE if executed else TaskState.CANCELLED, [task.state])
        return told(actor, task, "rolled back", f"by {by}", result={"task": str(back.pk)})


def preview_of_rollback(actor: Actor, task: Task, *, by: str = specs.STEPS) -> Prepared:
    """Return what `roll_back` would make. Nothing is done. Raises as it does."""
    rights.require_control(actor, task)
    with transaction.atomic():
        prepared = _taking_back(actor, locked(task.pk), by)
        transaction.set_rollback(True)  # of what was registered to see it
    return prepared


def _taking_back(actor: Actor, task: Task, by: str) -> Prepared:
    if by not in (specs.STEPS, specs.SNAPSHOTS):
        raise Invalid.field("by", f"Give {specs.STEPS} or {specs.SNAPSHOTS}.")
    if task.state not in (*TaskState.resumable(), TaskState.EXECUTED):
        raise Conflict(f"This task is {task.state}; it can be rolled back when it rests.")
    if not task.runs:
        raise Conflict("This task never ran: there is nothing to take back. Cancel it.")
    snapshots = reverts.of(task) if by == specs.SNAPSHOTS else None
    passed, made = books.reached(task), books.created(task)
    if task.state != TaskState.EXECUTED:
        _register(task)
    return specs.prepare_rollback(
        actor=actor, prepared=task.planned, reached=passed, created=made, reverts=snapshots
    )


def told(
    actor: Actor,
    task: Task,
    verb: str,
    text: str = "",
    *,
    result: dict[str, Any] | None = None,
    data: dict[str, Any] | None = None,
) -> Job:
    """Write report, audit (with `data`) and event of a verb; return its job, which is done."""
    kind = f"task.{verb.replace(' ', '_')}"
    note(task, verb, actor.name, text)
    audit(actor, kind, task.subject, task.title, data={"state": task.state} | (data or {}))
    announce(task)
    message = f"{verb.capitalize()}: {task.title}"[:300]
    return record_done(VERB, task.subject, actor, message=message, result=result)
