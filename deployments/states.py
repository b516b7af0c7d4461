"""The states of tasks, blocks and steps, and which may follow which."""

from __future__ import annotations

from typing import TYPE_CHECKING

from django.db import models

if TYPE_CHECKING:
    from collections.abc import Iterable


class TaskState(models.TextChoices):
    REGISTERED = "registered"
    PENDING = "pending"
    SCHEDULED = "scheduled"
    QUEUED = "queued"
    EXECUTING = "executing"
    FAILING = "failing"
    STOPPING = "stopping"
    ABORTING = "aborting"
    FAILED = "failed"
    STOPPED = "stopped"
    ABORTED = "aborted"
    EXECUTED = "executed"
    DONE = "done"
    CANCELLED = "cancelled"

    @classmethod
    def final(cls) -> list[str]:
        return [cls.DONE, cls.CANCELLED]

    @classmethod
    def running(cls) -> list[str]:
        """Return states in which steps may run."""
        return [cls.EXECUTING, cls.FAILING, cls.STOPPING, cls.ABORTING]

    @classmethod
    def resumable(cls) -> list[str]:
        """Return states in which a task rests before its end: a person continues or cancels it."""
        return [cls.FAILED, cls.STOPPED, cls.ABORTED]


class StepState(models.TextChoices):
    PENDING = "pending"
    QUEUED = "queued"  # reached; waits for a thread, a lock or a limit
    EXECUTING = "executing"
    FAILED = "failed"
    PAUSED = "paused"
    SKIP = "skip"  # marked to be skipped
    DONE = "done"
    SKIPPED = "skipped"

    @classmethod
    def finished(cls) -> list[str]:
        return [cls.DONE, cls.SKIPPED]

    @classmethod
    def active(cls) -> list[str]:
        return [cls.QUEUED, cls.EXECUTING]

    @classmethod
    def skippable(cls) -> list[str]:
        return [cls.PENDING, cls.FAILED, cls.PAUSED]


class BlockState(models.TextChoices):
    PENDING = "pending"
    EXECUTING = "executing"
    STOPPED = "stopped"
    FAILING = "failing"
    FAILED = "failed"
    ABORTING = "aborting"
    ABORTED = "aborted"
    DONE = "done"

    @classmethod
    def running(cls) -> list[str]:
        return [cls.EXECUTING, cls.FAILING, cls.ABORTING]


T, S, B = TaskState, StepState, BlockState

TASK_MOVES: dict[str, frozenset[TaskState]] = {
    T.REGISTERED: frozenset({T.PENDING}),
    # Cancelling a pending task removes it, so it has no way to cancelled.
    T.PENDING: frozenset({T.QUEUED, T.SCHEDULED}),
    # Failed: what refused its start did so for too long.
    T.SCHEDULED: frozenset({T.QUEUED, T.SCHEDULED, T.CANCELLED, T.FAILED}),
    # A task that waits for its turn may be taken back; by force, it may be cancelled.
    T.QUEUED: frozenset({T.EXECUTING, T.STOPPED, T.CANCELLED}),
    T.EXECUTING: frozenset(
        {T.FAILING, T.STOPPING, T.ABORTING, T.FAILED, T.STOPPED, T.ABORTED, T.EXECUTED}
        | {T.CANCELLED}
    ),
    # A failure may turn out to be one that the policy lets be.
    T.FAILING: frozenset(
        {T.FAILED, T.ABORTING, T.ABORTED, T.CANCELLED, T.EXECUTING, T.EXECUTED, T.STOPPED}
    ),
    # What still runs may fail, and may be the last step of all.
    T.STOPPING: frozenset(
        {T.FAILING, T.FAILED, T.ABORTING, T.ABORTED, T.STOPPED, T.EXECUTED, T.CANCELLED}
    ),
    T.ABORTING: frozenset({T.ABORTED, T.EXECUTED, T.CANCELLED}),
    T.FAILED: frozenset({T.QUEUED, T.SCHEDULED, T.CANCELLED}),
    T.STOPPED: frozenset({T.QUEUED, T.SCHEDULED, T.CANCELLED}),
    T.ABORTED: frozenset({T.QUEUED, T.SCHEDULED, T.CANCELLED}),
    T.EXECUTED: frozenset({T.DONE}),
    T.DONE: frozenset(),
    T.CANCELLED: frozenset(),
}

STEP_MOVES: dict[str, frozenset[StepState]] = {
    S.PENDING: frozenset({S.QUEUED, S.SKIP}),
    # Back when the task is stopped before its turn has come.
    S.QUEUED: frozenset({S.EXECUTING, S.PENDING, S.FAILED, S.PAUSED}),
    S.EXECUTING: frozenset({S.DONE, S.FAILED, S.PAUSED}),
    S.FAILED: frozenset({S.QUEUED, S.SKIP}),
    S.PAUSED: frozenset({S.QUEUED, S.SKIP}),
    S.SKIP: frozenset({S.SKIPPED, S.PENDING}),
    S.DONE: frozenset(),
    S.SKIPPED: frozenset(),
}

# What a step means for its block.
_AS_BLOCK: dict[str, BlockState] = {
    S.PENDING: B.PENDING,
    S.SKIP: B.PENDING,
    S.QUEUED: B.EXECUTING,
    S.EXECUTING: B.EXECUTING,
    S.FAILED: B.FAILED,
    S.PAUSED: B.STOPPED,
    S.DONE: B.DONE,
    S.SKIPPED: B.DONE,
}


def of_step(state: str, *, interrupted: bool = False) -> BlockState:
    """Return what a step counts as among a leaf's steps; an interrupted one is aborted."""
    return B.ABORTED if interrupted and state == S.FAILED else _AS_BLOCK[state]


def derive(children: Iterable[str], *, aborting: bool = False) -> BlockState:
    """Return a block's state from what its children count as. A block without any is done."""
    found = set(children)
    if found & set(B.running()):
        if aborting or B.ABORTING in found:
            return B.ABORTING
        return B.FAILING if found & {B.FAILED, B.FAILING} else B.EXECUTING
    for decisive in (B.ABORTED, B.FAILED, B.STOPPED):
        if decisive in found:
            return decisive
    if found <= {B.DONE}:
        return B.DONE
    return B.PENDING if found == {B.PENDING} else B.STOPPED


def of_task(root: str, *, stopping: bool, aborting: bool) -> TaskState:
    """Return the state of a task whose steps may run, from that of its root block."""
    if root in B.running():
        if aborting:
            return T.ABORTING
        if root == B.FAILING:
            return T.FAILING
        return T.STOPPING if stopping else T.EXECUTING
    if root == B.DONE:
        return T.EXECUTED
    if aborting:
        return T.ABORTED
    at_rest: dict[str, TaskState] = {B.FAILED: T.FAILED, B.ABORTED: T.ABORTED}
    return at_rest.get(root, T.STOPPED)
