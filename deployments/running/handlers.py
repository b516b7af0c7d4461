"""The jobs of tasks: one that drives each running task, and one for each running step."""

from __future__ import annotations

from contextlib import suppress
from functools import partial
from typing import TYPE_CHECKING, Any, ClassVar, Literal

import structlog
from django.conf import settings
from django.db import transaction
from django.utils import timezone

from deployments.models.tasks import Step, Task
from deployments.running import actions, admitting, finishing, rights
from deployments.running.actions import Run
from deployments.running.advancing import admit, advance
from deployments.running.moving import announce, locked, move_task, note
from deployments.running.results import (
    MAXIMUM_RETRIES,
    Busy,
    Failure,
    Pause,
    Result,
    Retry,
    Success,
)
from deployments.states import StepState, TaskState
from jobs.handlers import Handler
from jobs.outcomes import Again, Cancelled, Done, Fail, Outcome
from orchestrator.refusals import Refusal

if TYPE_CHECKING:
    from jobs.claims import Claim
    from jobs.models import Job

log = structlog.get_logger(__name__)

LOOK_SECONDS = 2.0  # a driver is woken when something becomes free; this is for what was missed


class TaskHandler(Handler):
    """`task.run`: starts a task when its turn has come, lets its steps run as places become free.

    It ends when the task comes to rest, failed if that has failed.
    """

    first = "drive"
    lost: ClassVar[Literal["repeat", "ask"]] = "repeat"

    def step_drive(self, claim: Claim) -> Outcome:
        with transaction.atomic():
            task = locked(claim.job.subject_id)
            if task.job_id != claim.job.pk:
                return Cancelled("The task was started anew.")
            if task.state == TaskState.QUEUED:
                _begin(task)
            elif task.is_running and not task.intent:
                admit(task)
        if task.state == TaskState.QUEUED or task.is_running:
            return Again(seconds=LOOK_SECONDS, progress=_progress(task), message=task.reason)
        return self._at_rest(task)

    def _at_rest(self, task: Task) -> Outcome:
        result = {"task": str(task.pk), "state": task.state}
        if task.state != TaskState.FAILED:
            return Done(message=task.reason or f"It is {task.state}.", result=result)
        then = task.policy.get("on_failure", {}).get("then")
        if then == "rollback" and task.kind != Task.Kind.ROLLBACK:
            result |= _roll_back(task)
        return Fail(task.reason or "The task failed.", result=result)


def _begin(task: Task) -> None:
    why = admitting.why_not_task(task)
    if why:
        if why != task.reason:
            Task.objects.filter(pk=task.pk).update(reason=why[:500])
            task.reason = why[:500]
            announce(task)
        return
    begun = task.started_at or timezone.now()
    move_task(task, TaskState.EXECUTING, expect=[TaskState.QUEUED], reason="", started_at=begun)
    advance(task, resume=True)


def _progress(task: Task) -> int:
    root = task.blocks.filter(parent=None).values_list("steps_done", "steps_total").first()
    done, total = root or (0, 1)
    return 99 * done // max(1, total)


def _roll_back(task: Task) -> dict[str, str]:
    """Do what the policy says of a failure; what refuses it is written down, and a person acts."""
    from deployments.running import control

    try:
        with transaction.atomic():
            actor = control.starter_of(task)
            made = control.roll_back(actor, task, by_policy=True).result["task"]
            control.start(actor, Task.objects.get(pk=made))
    except Refusal as refusal:
        note(task, "rollback", "orchestrator", f"Not rolled back: {refusal.message}")
        return {}
    return {"rollback": made}


class StepHandler(Handler):
    """`task.step`: one attempt of one step. A lost worker fails it, and a person continues."""

    first = "begin"
    calls = frozenset({"call"})
    lost: ClassVar[Literal["repeat", "ask"]] = "ask"

    def run(self, claim: Claim) -> Outcome:
        step = _step_of(claim.job)
        if step is None:
            return Cancelled("The step is over.")
        run = Run(claim, step)
        if _seconds_of(step) > settings.DEPLOYMENT_STEP_SECONDS:
            actions.of(step).cancel(run)
            return self._outcome(
                run, Failure(f"No end within {settings.DEPLOYMENT_STEP_SECONDS:g} s.")
            )
        try:
            if claim.job.step == "begin":
                result = _held(run) or actions.of(step).begin(run)
            else:
                result = actions.of(step).look(run)
        except Refusal as refusal:
            result = Failure(refusal.message)
        return self._outcome(run, result)

    def _outcome(self, run: Run, result: Result) -> Outcome:
        step, job = run.step, run.claim.job
        if isinstance(result, Busy):
            memory = {**run.memory, **result.memory}
            at = "call" if result.blocks else "look"
            return Again(seconds=result.seconds, step=at, payload={"memory": memory})
        if isinstance(result, Retry):
            if step.retries >= MAXIMUM_RETRIES:
                result = Failure(f"Given up after {step.retries} tries: {result.text}")
            else:
                run.log(result.text)
                Step.objects.filter(pk=step.pk, job=job).update(
                    retries=step.retries + 1, reason=result.text[:500]
                )
                return Again(
                    seconds=result.seconds,
                    step="begin",
                    payload={"memory": {}},
                    message=result.text,
                )
        effect = partial(finishing.finish, step.pk, job.pk, result)
        if isinstance(result, Failure):
            return Fail(result.text, effect=effect)
        assert isinstance(result, Success | Pause)
        return Done(message=result.text, result={"step": str(step.pk)}, effect=effect)

    def cancel(self, claim: Claim) -> Outcome:
        if step := _step_of(claim.job):
            with suppress(Refusal):
                actions.of(step).cancel(Run(claim, step))
        return Cancelled(claim.job.message)

    def failed(self, job: Job, error: str) -> None:
        finishing.finish(job.subject_id, job.pk, Failure(error, _left(job)))

    def cancelled(self, job: Job) -> None:
        ended = Failure(job.message or "Interrupted.", _left(job))
        finishing.finish(job.subject_id, job.pk, ended, cut=True)


class SafeStepHandler(StepHandler):
    """`task.safe_step`: of a step that may run again, so a lost worker is no failure."""

    lost: ClassVar[Literal["repeat", "ask"]] = "repeat"


def _held(run: Run) -> Pause | None:
    """Return a pause when whoever started the task may no longer, since the step was let in.

    What an attempt has asked for already is looked at all the same. What a person or an approver
    answered to the step is kept.
    """
    if run.step.block.always or run.memory:
        return None
    why = rights.why_held(run.task)
    return Pause(why, run.step.result) if why else None


def _step_of(job: Job) -> Step | None:
    """Return the step that the job is the current attempt of; None when it is over."""
    rows = Step.objects.select_related("task", "block", "task__started_by", "task__started_with")
    return rows.filter(pk=job.subject_id, job=job, state=StepState.EXECUTING).first()


def _left(job: Job) -> dict[str, Any]:
    step = _step_of(job)
    if step is None:
        return {}
    try:
        return actions.of(step).left(step, job)
    except Refusal:
        return {}


def _seconds_of(step: Step) -> float:
    assert step.started_at is not None
    return (timezone.now() - step.started_at).total_seconds()
