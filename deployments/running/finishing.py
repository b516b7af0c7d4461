"""The end of a step's attempt."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from django.db import transaction
from django.db.models import F
from django.db.models.functions import Now

from deployments.models.tasks import Step, Task
from deployments.running import admitting, logs
from deployments.running.advancing import advance
from deployments.running.moving import locked, move
from deployments.running.results import Failure, Pause, Success
from deployments.states import StepState

if TYPE_CHECKING:
    from uuid import UUID


def finish(
    step_id: UUID | str, job_id: UUID, result: Success | Failure | Pause, *, cut: bool = False
) -> None:
    """End the attempt that `job_id` is, if it is still under way.

    `cut`: it was interrupted. What follows in the plan goes on in the same transaction.
    """
    with transaction.atomic():
        step = Step.objects.filter(pk=step_id).only("task_id", "block_id", "attempt").first()
        if step is None:
            return
        task = locked(step.task_id)
        to = {Success: StepState.DONE, Failure: StepState.FAILED, Pause: StepState.PAUSED}
        values: dict[str, Any] = {
            "reason": result.text[:500],
            "result": result.result,
            "ended_at": Now(),
        }
        if isinstance(result, Failure):
            values["failures"] = F("failures") + 1
            values["interrupted"] = cut and task.intent == Task.Intent.ABORT
        rows = Step.objects.filter(pk=step_id, job=job_id)
        if not move(rows, to[type(result)], expect=[StepState.EXECUTING], **values):
            return
        if result.text:
            logs.write(step.pk, step.attempt, result.text, told=False)
        advance(task, [step.block_id])
        admitting.wake_others(task)
