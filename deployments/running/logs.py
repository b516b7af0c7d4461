"""The log of a step: its lines, and who follows it hears that there are new ones."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

from django.db import transaction

from deployments.models.tasks import Step, StepLog
from events.publishing import publish_once

if TYPE_CHECKING:
    from uuid import UUID

KIND = "step.logged"


def write(step_id: UUID, attempt: int, text: str, *, told: bool = True) -> None:
    """Add a line to the log of a step's attempt. The caller has masked secrets.

    Not `told` is a line of the beginning or the end, which the task tells of itself.
    """
    StepLog.objects.create(step_id=step_id, attempt=attempt, text=text)
    if not told:
        return
    # Only then: an event that waits to be told covers this line if the line is there already.
    transaction.on_commit(partial(tell, step_id), robust=True)


def tell(step_id: UUID) -> None:
    """Publish that the step's log grew: once, however many lines came since the last was told."""
    step = Step.objects.select_related("task", "block").filter(pk=step_id).first()
    if step is None:
        return
    publish_once(
        KIND,
        f"step:{step.pk}",
        {"task": str(step.task_id), "path": step.path, "attempt": step.attempt},
        permission="deployments.view",
        owner_id=step.task.owner_id,
    )
