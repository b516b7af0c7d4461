"""The tables of states, and what blocks and tasks make of their parts."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from deployments.models import Step, Task
from deployments.running.moving import move
from deployments.states import (
    STEP_MOVES,
    TASK_MOVES,
    BlockState,
    StepState,
    TaskState,
    derive,
    of_step,
    of_task,
)
from tests.deployments.running.conftest import L, told

if TYPE_CHECKING:
    from tests.deployments.running.conftest import Engine


def test_every_pair_of_states_moves_as_the_table_says_and_no_other_does(engine: Engine) -> None:
    task = engine.make(L("leaf", told("one")))
    step = Step.objects.get(task=task, text="one")
    for row, states, moves in ((task, TaskState, TASK_MOVES), (step, StepState, STEP_MOVES)):
        rows = type(row).objects.filter(pk=row.pk)
        for before in states:
            for after in states:
                rows.update(state=before)
                if after in moves[before]:
                    assert move(rows, after, expect=[before]) == 1, (before, after)
                    others = [one for one in states if one != before and after in moves[one]]
                    rows.update(state=before)
                    assert move(rows, after, expect=others) == 0, (before, after)
                else:
                    with pytest.raises(ValueError, match="never moves"):
                        move(rows, after, expect=[before])
                assert rows.get().state in (before, after)


def test_final_states_are_left_by_nothing_and_every_state_is_reached() -> None:
    for states, moves, final, first in (
        (TaskState, TASK_MOVES, TaskState.final(), TaskState.REGISTERED),
        (StepState, STEP_MOVES, StepState.finished(), StepState.PENDING),
    ):
        assert set(moves) == set(states)
        assert all(not moves[one] for one in final)
        assert set().union(*moves.values()) | {first} == set(states)


def test_a_block_is_what_its_children_are() -> None:
    B = BlockState
    for children, expected in {
        (): B.DONE,
        (B.DONE, B.DONE): B.DONE,
        (B.PENDING, B.PENDING): B.PENDING,
        (B.DONE, B.PENDING): B.STOPPED,  # stopped between steps
        (B.DONE, B.STOPPED): B.STOPPED,
        (B.FAILED, B.STOPPED): B.FAILED,
        (B.ABORTED, B.FAILED): B.ABORTED,
        (B.EXECUTING, B.PENDING): B.EXECUTING,
        (B.EXECUTING, B.FAILED): B.FAILING,
        (B.FAILING, B.DONE): B.FAILING,
        (B.ABORTING, B.FAILED): B.ABORTING,
        (B.EXECUTING, B.STOPPED): B.EXECUTING,
    }.items():
        assert derive(children) == expected, children
    assert derive([B.EXECUTING, B.FAILED], aborting=True) == B.ABORTING
    assert of_step(StepState.FAILED, interrupted=True) == B.ABORTED
    assert [of_step(one) for one in (StepState.SKIP, StepState.SKIPPED, StepState.QUEUED)] == [
        *(B.PENDING, B.DONE, B.EXECUTING)
    ]


def test_a_task_mirrors_its_root() -> None:
    def seen(root: BlockState, *, stopping: bool = False, aborting: bool = False) -> TaskState:
        return of_task(root, stopping=stopping, aborting=aborting)

    B, T = BlockState, TaskState
    assert [seen(one) for one in (B.EXECUTING, B.FAILING, B.DONE, B.FAILED, B.STOPPED)] == [
        *(T.EXECUTING, T.FAILING, T.EXECUTED, T.FAILED, T.STOPPED)
    ]
    assert seen(B.EXECUTING, stopping=True) == T.STOPPING
    assert seen(B.FAILING, stopping=True) == T.FAILING
    assert seen(B.EXECUTING, aborting=True) == T.ABORTING
    assert seen(B.STOPPED, aborting=True) == T.ABORTED
    assert seen(B.DONE, aborting=True) == T.EXECUTED
    assert {Task.Intent.RUN.value, Task.Intent.STOP.value} == {"", "stop"}
