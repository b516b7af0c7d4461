"""What people do with steps of a task: skip, unskip, pause before one, approve."""

from __future__ import annotations

from typing import TYPE_CHECKING

from django.db import transaction
from django.db.models import F

from accounts.models import Role
from deployments.models.tasks import Block, Step, Task
from deployments.running import control, rights
from deployments.running.actions.people import is_late
from deployments.running.building import PAUSE
from deployments.running.moving import locked, move
from deployments.running.policy import APPROVAL
from deployments.states import StepState, TaskState
from orchestrator.refusals import Conflict, Forbidden, Invalid, NotFound

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from accounts.actors import Actor
    from jobs.models import Job

PAUSE_TEXT = "Pause the execution"


def block_at(task: Task, path: str) -> Block:
    """Return the block at `path`. Raises `NotFound`."""
    found = Block.objects.filter(task=task, path=path).first()
    if found is None:
        raise NotFound(f"This task has no block {path}.")
    return found


def place_of(path: str) -> tuple[int, ...]:
    """Return what paths are sorted by, so that blocks come in listing order."""
    return tuple(map(int, path.split("_")))


def step_at(task: Task, path: str) -> Step:
    """Return the step at `path`. Raises `NotFound`."""
    above, _, position = path.rpartition("_")
    rows = Step.objects.select_related("block")
    found = (
        rows.filter(task=task, block__path=above, position=int(position)).first()
        if position.isascii() and position.isdecimal() and len(position) < 8
        else None
    )
    if found is None:
        raise NotFound(f"This task has no step {path}.")
    return found


def steps_at(task: Task, paths: Iterable[str]) -> list[Step]:
    """Return the steps at `paths`; a block's stands for all that it holds. Raises `NotFound`."""
    found: dict[object, Step] = {}
    for path in paths:
        if Block.objects.filter(task=task, path=path).exists():
            held = Step.objects.filter(task=task).select_related("block").order_by("number")
            within = [
                one
                for one in held
                if one.block.path == path or one.block.path.startswith(f"{path}_")
            ]
            found |= {one.pk: one for one in within}
        else:
            step = step_at(task, path)
            found[step.pk] = step
    return list(found.values())


def skip(actor: Actor, task: Task, *, paths: Sequence[str]) -> Job:
    """Mark steps to be skipped. A block's path stands for all steps in it that are not over.

    Takes a right of its own, and for an approval that of approving. Raises `Forbidden`, `NotFound`,
    and `Conflict`, with nothing changed, when one of them cannot be skipped: it runs, is over, or
    registers what was done.
    """
    return _mark(actor, task, paths, StepState.SKIP, StepState.skippable(), "skipped")


def unskip(actor: Actor, task: Task, *, paths: Sequence[str]) -> Job:
    """Take the mark away again. Raises as `skip` does."""
    return _mark(actor, task, paths, StepState.PENDING, [StepState.SKIP], "unskipped")


def _mark(
    actor: Actor, task: Task, paths: Sequence[str], to: StepState, expect: list[str], verb: str
) -> Job:
    rights.require_control(actor, task)
    actor.require("deployments.skip")
    if not paths:
        raise Invalid.field("paths", "Give the paths of steps or blocks.")
    with transaction.atomic():
        actor.take()
        task = locked(task.pk)
        _require_open(task)
        blocks = set(Block.objects.filter(task=task, path__in=paths).values_list("path", flat=True))
        steps = steps_at(task, paths)
        for step in steps:
            if step.block.always:
                raise Conflict(f"Step {step.number} registers what was done; it always runs.")
            if step.state not in expect and step.path in paths:
                raise Conflict(
                    f"Step {step.number} is {step.state}; {verb[:-2]} needs it to be "
                    f"{' or '.join(expect)}."
                )
            if step.kind == APPROVAL and step.state in expect and to == StepState.SKIP:
                _require_approver(actor, step)  # or skipping would be a way around it
        ids = [one.pk for one in steps if one.state in expect]
        if not ids:
            raise Conflict(f"None of these steps can be {verb} now.")
        move(Step.objects.filter(pk__in=ids), to, expect=expect)
        numbers = sorted(one.number for one in steps if one.pk in set(ids))
        what = f"blocks {', '.join(sorted(blocks))}" if blocks else f"steps {numbers}"
        return control.told(actor, task, verb, what)


def _require_open(task: Task) -> None:
    if task.is_final or task.state == TaskState.EXECUTED:
        raise Conflict(f"This task is {task.state}: nothing of its plan runs any more.")


def add_pause(actor: Actor, task: Task, *, path: str, after: bool = False) -> Job:
    """Add a pause before (or `after`) the step at `path`, which the task has not come to yet.

    It takes the path of the step before which it stands; later ones move on by one. Raises
    `Forbidden`, `NotFound`, `Conflict`.
    """
    rights.require_control(actor, task)
    with transaction.atomic():
        actor.take()
        task = locked(task.pk)
        _require_open(task)
        step = step_at(task, path)
        position = step.position + after
        behind = Step.objects.filter(block=step.block, position__gte=position)
        passed = [*StepState.finished(), *StepState.active()]
        if behind.filter(state__in=passed).exists():
            raise Conflict(f"The task has come past {path} already. Choose a later step.")
        if step.block.always:
            raise Conflict("Registering what was done takes no pause. Choose an earlier step.")
        number = step.number + after
        # From the last on, so that no two have one number in between.
        behind.update(position=F("position") + 1)
        Step.objects.filter(task=task, number__gte=number).update(number=F("number") + 1)
        Step.objects.create(
            task=task,
            block=step.block,
            position=position,
            number=number,
            order=step.order,
            text=PAUSE_TEXT,
            action={"kind": PAUSE, "instruction": PAUSE_TEXT},
            kind=PAUSE,
            repeatable=True,
        )
        parts = step.block.path.split("_")
        above = ["_".join(parts[:length]) for length in range(1, len(parts) + 1)]
        Block.objects.filter(task=task, path__in=above).update(steps_total=F("steps_total") + 1)
        return control.told(actor, task, "paused", f"a pause at {step.block.path}_{position}")


def approve(actor: Actor, task: Task, *, path: str) -> Job:
    """Approve at an approval point, and let the task go on; returns the job that drives it.

    Takes the role that the point names. The steps that follow act as whoever started the task.
    Raises `Forbidden`, and `Conflict` when nothing waits there or its time has run out.
    """
    rights.require_control(actor, task)
    with transaction.atomic():
        actor.take()
        task = locked(task.pk)
        step = step_at(task, path)
        if step.kind != APPROVAL or step.state != StepState.PAUSED:
            raise Conflict(f"Nothing waits for an approval at {path}.")
        _require_approver(actor, step)
        if is_late(step):
            raise Conflict("The time for this approval has run out. Continue the task to ask anew.")
        Step.objects.filter(pk=step.pk).update(result={"approved_by": actor.name})
        control.told(actor, task, "approved", step.text)
        starter = control.starter_of(task)
        try:
            rights.take_task(starter, task)
        except Forbidden as refusal:
            raise Forbidden(
                f"The task would go on as {starter.name}, whom this refuses: {refusal.message} "
                "Continue it yourself, so that it acts as you."
            ) from None
        return control.queue(starter, task)


def may_approve(actor: Actor, step: Step) -> bool:
    """Return whether the actor has the role that an approval point names; without one, anybody."""
    role = step.action.get("role")
    rows = Role.objects.filter(pk__in=actor.role_ids, group__name__iexact=role)
    return not role or rows.exists()


def _require_approver(actor: Actor, step: Step) -> None:
    if not may_approve(actor, step):
        raise Forbidden(f"Only somebody of the role {step.action['role']} may approve this.")
