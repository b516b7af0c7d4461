"""`register`: what was really done goes into the environment's record."""

from __future__ import annotations

from typing import TYPE_CHECKING

from django.db import transaction

from deployments import deployed
from deployments.models.tasks import Step, Task
from deployments.prepared import Reached
from deployments.running.actions.base import Action
from deployments.running.results import Result, Success
from deployments.states import StepState

if TYPE_CHECKING:
    from deployments.running.actions.base import Run


class Register(Action):
    """The last step of every task; a cancelled task does it, too."""

    def begin(self, run: Run) -> Result:
        return Success(keep(run.task))


def keep(task: Task) -> str:
    """Record what `task` has done so far; doing it again changes nothing. Returns it in words."""
    if not task.planned:
        return "There is nothing to register."
    passed = reached(task)
    with transaction.atomic():
        deployed.record(task.planned, passed, created(task))
    if passed is None:
        return "All changes are registered."
    return f"{len(passed)} changes are registered, as far as they were made."


def reached(task: Task) -> list[Reached] | None:
    """Return the checkpoints that were passed, in order; None: every step is done or skipped.

    A step that was skipped counts as done by hand.
    """
    steps = Step.objects.filter(task=task, block__always=False)
    if not steps.exclude(state__in=StepState.finished()).exists():
        return None
    passed = steps.filter(checkpoint=True, state__in=StepState.finished())
    rows = passed.order_by("ended_at", "number").values_list("deployeds", "action")
    return [
        Reached(name, container, action.get("checkpoint", ""))
        for deployeds, action in rows
        for name, container in deployeds
    ]


def created(task: Task) -> dict[tuple[str, str], str]:
    """Return the ids of the VMs that the task's steps made, by deployed and container."""
    made = Step.objects.filter(task=task, kind="vm.create", state=StepState.DONE)
    return {
        tuple(action["deployed"]): result["vm"]
        for action, result in made.values_list("action", "result")
        if result.get("vm")
    }
