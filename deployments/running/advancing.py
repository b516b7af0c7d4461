"""Going on with a plan: which steps are reached, and what blocks and task are then."""

from __future__ import annotations

from collections import defaultdict
from typing import TYPE_CHECKING

from django.db.models.functions import Now

from accounts.actors import SYSTEM
from accounts.audit import audit
from deployments.models.tasks import Block, Step, Task, TaskLock
from deployments.running import admitting
from deployments.running.moving import announce, move, move_task, note
from deployments.running.policy import share_of
from deployments.running.tree import Tree, branch_of
from deployments.states import BlockState, StepState, TaskState, derive, of_step, of_task
from jobs.queueing import hurry, request_cancel

if TYPE_CHECKING:
    from collections.abc import Iterable
    from uuid import UUID

    from deployments.running.tree import Node


def advance(task: Task, leaves: Iterable[UUID] = (), *, resume: bool = False) -> None:
    """Let the plan go on after steps of `leaves` changed; the caller holds the task's row.

    Reached steps become QUEUED and, as far as limits and locks let them, EXECUTING with a job.
    Blocks and the task get the states that follow. With `resume` the leaves that came to rest go
    on, too: what failed or paused runs again.
    """
    tree = Tree.of(task.pk)
    touched = [tree.nodes[pk] for pk in leaves]
    if resume:
        _forget_tolerance(tree)
        touched = tree.ready()
    aborting = task.intent == Task.Intent.ABORT
    while True:
        _derive(tree, touched, aborting=aborting)
        _tolerate(task, tree)
        if not task.is_running or (not resume and not _goes_on(task, tree)):
            break
        known = {node.pk for node in touched}
        begin = [
            leaf for leaf in tree.ready() if leaf.pk in known or leaf.state == BlockState.PENDING
        ]
        if not _begin(begin, resume=resume):
            break
        touched, resume = begin, False
    if task.is_running and not _goes_on(task, tree):
        _hold_back(task, tree)
    tree.save()
    if task.is_running:
        _mirror(task, tree)
    resting = [node.pk for node in tree.nodes.values() if node.state not in BlockState.running()]
    if TaskLock.objects.filter(task=task, block__in=resting).delete()[0]:
        admitting.wake_others(task)
    if task.is_running and admit(task):
        return
    announce(task)


def admit(task: Task) -> bool:
    """Let steps begin as places become free; return whether the task was held instead.

    Held for the reason that whoever started it may no longer: it stops as if asked to, and its
    reason says why.
    """
    why = admitting.admit(task)
    if not why:
        return False
    Task.objects.filter(pk=task.pk).update(intent=Task.Intent.STOP, reason=why[:500])
    task.intent, task.reason = Task.Intent.STOP, why[:500]
    note(task, "held", "orchestrator", why)
    audit(SYSTEM, "task.held", task.subject, task.title, data={"reason": why})
    advance(task)
    return True


def _derive(tree: Tree, leaves: list[Node], *, aborting: bool) -> None:
    states: dict[UUID, list[tuple[str, bool]]] = defaultdict(list)
    rows = Step.objects.filter(block__in=[leaf.pk for leaf in leaves]).order_by()
    for block_id, state, interrupted in rows.values_list("block", "state", "interrupted"):
        states[block_id].append((state, interrupted))
    for leaf in leaves:
        steps = states[leaf.pk]
        leaf.set(
            derive((of_step(state, interrupted=cut) for state, cut in steps), aborting=aborting),
            sum(state in StepState.finished() for state, _ in steps),
        )
    tree.derive(leaves, aborting=aborting)


def _begin(leaves: list[Node], *, resume: bool) -> bool:
    """Reach the first unfinished step of each leaf; return whether anything moved.

    A step that failed or pauses is reached again only when a person let the task go on.
    """
    rows = Step.objects.filter(block__in=[leaf.pk for leaf in leaves])
    unfinished = rows.exclude(state__in=StepState.finished()).order_by("block", "position")
    skip: list[UUID] = []
    reach: list[UUID] = []
    settled: set[UUID] = set()
    at_rest = [StepState.PENDING, *([StepState.FAILED, StepState.PAUSED] if resume else [])]
    for pk, block_id, state in unfinished.values_list("pk", "block", "state"):
        if block_id in settled:
            continue
        if state == StepState.SKIP:
            skip.append(pk)
            continue
        settled.add(block_id)
        if state in at_rest:
            reach.append(pk)
    moved = move(
        Step.objects.filter(pk__in=skip), StepState.SKIPPED, expect=[StepState.SKIP], ended_at=Now()
    )
    moved += move(
        Step.objects.filter(pk__in=reach),
        StepState.QUEUED,
        expect=at_rest,
        interrupted=False,
        reason="",
        queued_at=Now(),
    )
    return bool(moved)


def _goes_on(task: Task, tree: Tree) -> bool:
    """Return whether new steps may begin: nobody stopped the task, nor did a failure."""
    if task.intent:
        return False
    failing = task.policy.get("on_failure", {})
    finish = failing.get("siblings", "finish") == "finish" and failing.get("then") != "stop"
    return finish or not tree.failed()


def _hold_back(task: Task, tree: Tree) -> None:
    """Take back what has not begun, and interrupt what runs if that is wanted."""
    waiting = Step.objects.filter(task=task, state=StepState.QUEUED)
    if leaves := [tree.nodes[pk] for pk in set(waiting.values_list("block", flat=True))]:
        move(waiting, StepState.PENDING, expect=[StepState.QUEUED], reason="")
        _derive(tree, leaves, aborting=task.intent == Task.Intent.ABORT)
    if task.intent == Task.Intent.ABORT:
        interrupt(task, "The task was aborted.")
    elif not task.intent and task.policy.get("on_failure", {}).get("siblings") == "abort":
        interrupt(task, "Interrupted, because a step beside it failed.")


def interrupt(task: Task, why: str) -> None:
    """Ask the jobs of all running steps to stop."""
    running = Step.objects.filter(task=task, state=StepState.EXECUTING).select_related("job")
    for step in running.order_by("pk"):
        if step.job:
            request_cancel(step.job, reason=why)


def _forget_tolerance(tree: Tree) -> None:
    for node in tree.nodes.values():
        if node.tolerated:
            node.tolerated, node.changed = False, True
            tree.derive([node], aborting=False)


def _tolerate(task: Task, tree: Tree) -> None:
    """Let failed branches of parallel blocks be, as long as the policy allows so many.

    A VM whose branch failed, and then its health gate, has failed once.
    """
    wanted = task.policy.get("on_failure", {}).get("tolerated", 0)
    if not wanted or task.intent:
        return
    parallels = [one for one in tree.nodes.values() if one.kind == Block.Kind.PARALLEL]
    branches = [child for one in parallels for child in one.children]
    failed = {node.pk: node for leaf in tree.failed() if (node := branch_of(leaf))}
    without = {one.stands_for for one in branches if one.tolerated or one.pk in failed}
    if len(without) > share_of(wanted, len({node.stands_for for node in branches})):
        return
    for node in failed.values():
        if node.state not in BlockState.running():
            node.tolerated = node.changed = True
            tree.derive([node], aborting=False)


def _mirror(task: Task, tree: Tree) -> None:
    """Give the task the state that follows from its root block."""
    to = of_task(
        tree.root.state,
        stopping=task.intent == Task.Intent.STOP,
        aborting=task.intent == Task.Intent.ABORT,
    )
    if to == task.state:
        return
    if to in TaskState.running():
        move_task(task, to, expect=[task.state])
        return
    reason = _why_at_rest(task, to, tree)
    move_task(task, to, expect=[task.state], reason=reason[:500], intent="", ended_at=Now())
    TaskLock.objects.filter(task=task).delete()
    note(task, to, "orchestrator", reason)
    hurry([task.subject])  # its driver: somebody may wait for that to end
    admitting.wake_others(task)


def _why_at_rest(task: Task, to: str, tree: Tree) -> str:
    steps = Step.objects.filter(task=task).order_by("number")
    if to in (TaskState.FAILED, TaskState.ABORTED):
        step = steps.filter(state=StepState.FAILED).first()
        return f"Step {step.number} “{step.text}”: {step.reason}" if step else ""
    if to == TaskState.STOPPED:
        step = steps.filter(state=StepState.PAUSED).first()
        return f"Step {step.number} “{step.text}”: {step.reason}" if step else task.reason
    left = len({node.stands_for for node in tree.nodes.values() if node.tolerated})
    if not left:
        return ""
    return f"{left} failed {'branch is' if left == 1 else 'branches are'} tolerated."
