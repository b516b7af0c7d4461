"""The execution cases of the rules (`orchestrators/rules.md` 5.3), by their numbers."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING

import pytest
from django.utils import timezone

from deployments.models import Block, Step, StepLog, Task
from deployments.prepared import Reached
from deployments.running import control, planwork
from jobs.models import Job
from orchestrator.refusals import Conflict, Forbidden, Invalid
from tests.deployments.running.conftest import L, P, S, told

if TYPE_CHECKING:
    from collections.abc import Callable

    from accounts.actors import Actor
    from accounts.models import User
    from tests.deployments.running.conftest import Engine

pytestmark = pytest.mark.stores


def three(engine: Engine, *first: str) -> Task:
    return engine.make(L("leaf", told("1", *first), told("2"), told("3")))


def test_e0_phases_and_where_the_plans_ends_are(engine: Engine) -> None:
    around = S(
        L("Prepare deployment", told("Notify start"), made_by=""),
        P(L("container 1", told("a")), L("container 2", told("b"))),
        L("Finalize deployment", told("Notify end"), made_by=""),
    )
    task = engine.run(engine.make(around))
    paths = dict(Block.objects.filter(task=task).values_list("path", "label"))
    assert paths["0_1_1_1"] == "Prepare deployment"
    assert (paths["0_1_1_2_1"], paths["0_1_1_2_2"]) == ("container 1", "container 2")
    assert paths["0_1_1_3"] == "Finalize deployment"
    assert paths["0_2"] == paths["0_2_1"] == "Register changes for Shop 1.0"
    numbered = Step.objects.filter(task=task).values_list("number", "text")
    assert list(numbered) == [
        *((1, "Notify start"), (2, "a"), (3, "b"), (4, "Notify end"), (5, "Register deployeds"))
    ]
    assert task.state == "executed"


def test_e1_a_pause_takes_the_path_of_the_step_before_which_it_stands(engine: Engine) -> None:
    task = three(engine)
    planwork.add_pause(engine.alice, task, path="0_1_1_2")
    engine.run(task)

    def states() -> dict[str, str]:
        rows = Step.objects.filter(task=task, block__path="0_1_1").select_related("block")
        return {one.path: one.state for one in rows}

    assert states() == {
        "0_1_1_1": "done",
        "0_1_1_2": "paused",
        "0_1_1_3": "pending",
        "0_1_1_4": "pending",
    }
    assert Block.objects.get(task=task, path="0_1_1").state == "stopped"
    assert (engine.state(task), engine.reread(task).reason) == (
        "stopped",
        "Step 2 “Pause the execution”: Pause the execution",
    )
    assert list(Step.objects.filter(task=task).values_list("number", flat=True)) == [1, 2, 3, 4, 5]
    with pytest.raises(Conflict, match="has come past 0_1_1_1"):
        planwork.add_pause(engine.alice, task, path="0_1_1_1")
    assert engine.run(task).state == "executed"
    assert set(states().values()) == {"done"}
    assert Block.objects.get(task=task, path="0").steps_done == 5


def test_e2_skip_and_unskip_also_as_a_list(
    engine: Engine, olga: User, bob: User, actor_of: Callable[[User], Actor]
) -> None:
    task = three(engine)
    planwork.skip(engine.alice, task, paths=["0_1_1_2"])
    assert engine.steps(task)["2"] == "skip"
    with pytest.raises(Conflict, match="Step 2 is skip"):
        planwork.skip(engine.alice, task, paths=["0_1_1_1", "0_1_1_2"])
    assert engine.steps(task)["1"] == "pending"  # all or nothing
    planwork.unskip(engine.alice, task, paths=["0_1_1_2"])
    assert engine.steps(task)["2"] == "pending"
    planwork.skip(actor_of(olga), task, paths=["0_1_1_2", "0_1_1_3"])
    assert engine.run(task).state == "executed"
    assert engine.steps(task) == {"1": "done", "2": "skipped", "3": "skipped"}

    other = three(engine)
    role = olga.groups.get().role
    role.permissions = [one for one in role.permissions if one != "deployments.skip"]
    role.save()
    with pytest.raises(Forbidden, match="skip steps of deployments"):
        planwork.skip(actor_of(olga), other, paths=["0_1_1_2"])
    planwork.skip(engine.alice, other, paths=["0_1_1"])  # a block: all in it
    assert engine.run(other).state == "executed"
    assert set(engine.steps(other).values()) == {"skipped"}


def test_e3_the_register_step_cannot_be_skipped(engine: Engine) -> None:
    task = three(engine)
    for path in ("0_2_1_1", "0_2", "0"):
        with pytest.raises(Conflict, match="registers what was done"):
            planwork.skip(engine.alice, task, paths=[path])
    assert set(Step.objects.filter(task=task).values_list("state", flat=True)) == {"pending"}


def test_e4_abort_interrupts_and_the_step_can_be_skipped_or_the_task_cancelled(
    engine: Engine,
) -> None:
    task = three(engine, "slow")
    engine.run(task)
    assert (engine.state(task), engine.steps(task)["1"]) == ("executing", "executing")
    control.abort(engine.alice, task)
    assert engine.state(task) == "aborting"
    with pytest.raises(Conflict, match="is aborting"):
        control.cancel(engine.alice, task)
    engine.settle()
    assert engine.steps(task) == {"1": "failed", "2": "pending", "3": "pending"}
    assert engine.state(task) == "aborted"
    assert set(engine.blocks(task).values()) == {"aborted", "pending"}
    planwork.skip(engine.alice, task, paths=["0_1_1_1"])
    assert engine.steps(task)["1"] == "skip"
    assert engine.run(task).state == "executed"
    assert engine.steps(task) == {"1": "skipped", "2": "done", "3": "done"}

    other = three(engine, "slow")
    engine.run(other)
    control.abort(engine.alice, other)
    engine.settle()
    control.cancel(engine.alice, other)
    assert engine.state(other) == "cancelled"


def test_e6_a_failure_in_serial_stops_there_and_only_that_step_runs_again(engine: Engine) -> None:
    tree = S(
        L("a", told("1"), told("2", "fail", "fail", "ok"), told("3")),
        L("b", told("4")),
    )
    task = engine.run(engine.make(tree))
    assert engine.steps(task) == {"1": "done", "2": "failed", "3": "pending", "4": "pending"}
    assert (engine.blocks(task)["a"], engine.blocks(task)["b"]) == ("failed", "pending")
    assert (task.state, task.reason) == ("failed", "Step 2 “2”: It broke. Mend it.")
    again = engine.run(task)
    assert (again.state, engine.step(task, "2").failures) == ("failed", 2)
    assert engine.step(task, "1").attempt == 1
    assert engine.run(task).state == "executed"
    lines = StepLog.objects.filter(step=engine.step(task, "2"))
    assert list(lines.filter(text__startswith="told").values_list("attempt", "text")) == [
        *((1, "told to be fail"), (2, "told to be fail"), (3, "told to be ok"))
    ]


@pytest.mark.parametrize(
    ("siblings", "third", "after"),
    [("finish", "done", "failed"), ("stop", "pending", "failed"), ("abort", "pending", "failed")],
)
def test_e7_a_failure_in_parallel(engine: Engine, siblings: str, third: str, after: str) -> None:
    tree = S(
        P(L("a", told("1", "fail")), L("b", told("2", "slow", "ok"), told("3"))),
        L("c", told("4")),
    )
    task = engine.make(tree, policy={"on_failure": {"siblings": siblings}})
    engine.start(task)
    engine.settle()
    if siblings != "abort":
        assert engine.steps(task)["2"] == "executing"
        assert (engine.blocks(task)["a"], engine.blocks(task)["parallel"]) == ("failed", "failing")
        assert engine.state(task) == "failing"
        engine.release("2")
    second = "failed" if siblings == "abort" else "done"
    assert engine.steps(task) == {"1": "failed", "2": second, "3": third, "4": "pending"}
    assert (engine.state(task), engine.blocks(task)["c"]) == (after, "pending")


def test_e8_cancel_keeps_the_books_also_after_stop_and_abort(engine: Engine) -> None:
    for ending in ("fail", "pause", "slow"):
        tree = L(
            "leaf",
            told("x", deployeds=(("X", "vm:1"),), checkpoint=True),
            told("y1", ending, deployeds=(("Y", "vm:1"),)),
            told("y2", deployeds=(("Y", "vm:1"),), checkpoint=True),
        )
        task = engine.run(engine.make(tree))
        if ending == "slow":
            control.abort(engine.alice, task)
            engine.settle()
        control.cancel(engine.alice, task)
        assert engine.state(task) == "cancelled"
        register = Step.objects.get(task=task, kind="register")
        assert (register.state, engine.steps(task)["y2"]) == ("done", "pending")
    assert engine.recorded == [([Reached("X", "vm:1")], {})] * 3
    done = engine.run(engine.make(L("leaf", told("x", checkpoint=True))))
    assert (done.state, engine.recorded[-1]) == ("executed", (None, {}))


def test_e12_schedules(engine: Engine) -> None:
    task = three(engine)
    now = timezone.now()
    for at in (now - timedelta(seconds=1), now + timedelta(days=365)):
        with pytest.raises(Invalid):
            control.schedule(engine.alice, task, at=at)
    control.schedule(engine.alice, task, at=now + timedelta(days=21))
    assert engine.state(task) == "scheduled"
    engine.settle()
    assert control.start_due() == 0
    assert engine.run(task).state == "executed"
    assert engine.reread(task).scheduled_for is None

    missed = three(engine, "fail", "ok")
    control.schedule(engine.alice, missed, at=now + timedelta(days=1))
    Task.objects.filter(pk=missed.pk).update(scheduled_for=now - timedelta(hours=3))
    assert control.start_due() == 1  # after a restart those that were missed run at once
    engine.settle()
    assert engine.state(missed) == "failed"
    control.schedule(engine.alice, missed, at=now + timedelta(days=1))
    control.cancel(engine.alice, missed)
    assert engine.state(missed) == "cancelled"


def test_e13_a_lost_worker_fails_the_step_and_the_task_and_nothing_else(engine: Engine) -> None:
    from jobs import sweeping
    from jobs.claims import claim

    task = engine.make(L("leaf", told("1"), told("2", "slow", "ok"), told("3")))
    pending, scheduled = three(engine), three(engine)
    control.schedule(engine.alice, scheduled, at=timezone.now() + timedelta(days=1))
    engine.run(task)
    job = engine.step(task, "2").job
    assert job is not None
    Job.objects.filter(pk=job.pk).update(run_after=timezone.now() - timedelta(seconds=1))
    held = claim(job.pk)
    assert held is not None
    with held.sending():  # the worker dies here
        Job.objects.filter(pk=job.pk).update(lease_until=timezone.now() - timedelta(seconds=1))
        sweeping.sweep()
    engine.settle()
    assert engine.steps(task) == {"1": "done", "2": "failed", "3": "pending"}
    assert engine.state(task) == "failed"
    assert "worker was lost" in engine.step(task, "2").reason
    assert (engine.state(pending), engine.state(scheduled)) == ("pending", "scheduled")
    assert engine.run(task).state == "executed"


def test_e15_nothing_to_do_is_only_the_register_phase(engine: Engine) -> None:
    task = engine.run(engine.make(None))
    assert task.state == "executed"
    assert list(
        Block.objects.filter(task=task).order_by("path").values_list("path", flat=True)
    ) == [*("0", "0_1", "0_1_1")]
    assert Step.objects.get(task=task).path == "0_1_1_1"
