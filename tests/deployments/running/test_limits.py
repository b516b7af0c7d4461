"""Places for steps, locks of VMs, what an environment lets be unavailable, what failures mean."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING, Any
from uuid import uuid4

import pytest
from django.utils import timezone

from deployments.models import Step, Task, TaskLock
from deployments.running import control, planwork
from orchestrator.refusals import Conflict, Forbidden
from tests.deployments.running.conftest import L, P, S, told

if TYPE_CHECKING:
    from collections.abc import Callable

    from accounts.actors import Actor
    from accounts.models import User
    from deployments.planning import Block
    from tests.deployments.running.conftest import Engine

pytestmark = pytest.mark.stores


def wide(count: int, *, vms: list[str] | None = None, title: str = "") -> Block:
    """Return a parallel block of leaves with one slow step, each on a VM of its own if given."""

    def more(number: int) -> dict[str, Any]:
        return {"container": {"vm": vms[number]}} if vms else {}

    return P(
        *(
            L(f"{title}leaf {one}", told(f"{title}{one}", "slow", **more(one)))
            for one in range(count)
        )
    )


def executing(task: Task) -> int:
    return Step.objects.filter(task=task, state="executing").count()


def test_two_places_and_six_leaves(engine: Engine, settings: Any) -> None:
    settings.DEPLOYMENT_MAX_STEPS = 2
    task = engine.run(engine.make(wide(6)))
    assert sorted(engine.steps(task).values()) == ["executing"] * 2 + ["queued"] * 4
    leaves = [state for label, state in engine.blocks(task).items() if label.startswith("leaf")]
    assert leaves == ["executing"] * 6
    waiting = Step.objects.filter(task=task, state="queued").first()
    assert waiting is not None
    assert waiting.reason == "All places for steps are taken."
    for _ in range(3):
        running = Step.objects.filter(task=task, state="executing")
        engine.release(*running.values_list("text", flat=True))
        assert executing(task) <= 2
    assert engine.state(task) == "executed"


def test_places_are_shared_fairly_between_tasks(engine: Engine, settings: Any) -> None:
    settings.DEPLOYMENT_MAX_STEPS = 4
    large = engine.run(engine.make(wide(8, title="large ")))
    small = engine.run(engine.make(wide(3, title="small ")))
    assert (executing(large), executing(small)) == (4, 0)
    engine.release("large 0", "large 1", "large 2")
    # What becomes free goes to who has less than its share, though the other waits longer.
    assert (executing(large), executing(small)) == (2, 2)


def test_so_many_tasks_run_at_once_and_the_next_says_why_it_waits(
    engine: Engine, settings: Any
) -> None:
    settings.DEPLOYMENT_MAX_TASKS = 1
    first = engine.run(engine.make(wide(1, title="a")))
    second = engine.run(engine.make(wide(1, title="b")))
    assert (first.state, second.state) == ("executing", "queued")
    assert second.reason == "1 tasks run already, which is the limit."
    engine.release("a0")
    assert engine.state(second) == "executing"
    third = engine.run(engine.make(wide(1, title="c")))
    control.stop(engine.alice, third)  # one that waits for its turn can be taken back
    assert engine.state(third) == "stopped"
    settings.DEPLOYMENT_MAINTENANCE = True
    with pytest.raises(Conflict, match="maintenance"):
        engine.start(third)


def test_a_vm_is_kept_for_a_leaf_from_its_first_step_to_its_end(engine: Engine) -> None:
    a, b = str(uuid4()), str(uuid4())
    on_a = {"container": {"vm": a}}
    first = engine.make(
        L("x", told("x1", "slow", **on_a), told("x2", "slow", **on_a)), title="First"
    )
    second = engine.make(
        P(
            L("y", told("y1", "ok", **on_a), told("y2", "ok", container={"vm": b})),
            L("z", told("z1", "ok", container={"vm": b})),
        ),
        title="Second",
    )
    engine.run(first)
    engine.run(second)
    # y waits for all that it needs and holds nothing meanwhile, so z goes on.
    assert engine.steps(second) == {"y1": "queued", "y2": "pending", "z1": "done"}
    assert engine.step(second, "y1").reason == "“First” has a VM until it is done with it."
    engine.release("x1")
    assert engine.steps(second)["y1"] == "queued"  # between two steps of the leaf, too
    engine.release("x2")
    assert (engine.state(first), engine.state(second)) == ("executed", "executed")
    assert not TaskLock.objects.exists()


def test_one_application_is_deployed_by_one_task_at_a_time_on_an_environment(
    engine: Engine,
) -> None:
    tasks = [engine.make(wide(1, title=name), title=name) for name in ("a", "b", "c")]
    for task, application in zip(tasks, ("shop", "shop", "blog"), strict=True):
        parts = [{"application_id": application}]
        Task.objects.filter(pk=task.pk).update(planned={"parts": parts})
    for task in tasks:
        engine.run(task)
    assert [engine.state(task) for task in tasks] == ["executing", "queued", "executing"]
    assert engine.reread(tasks[1]).reason == (
        "“a” has this application here until it is done with it."
    )
    engine.release("a0")
    assert engine.state(tasks[0]) == "executed"
    assert engine.state(tasks[1]) == "executing"


def test_an_environment_bounds_how_many_vms_change_at_once_over_all_tasks(engine: Engine) -> None:
    engine.environment.policy = {"max_unavailable": 2}
    engine.environment.save()
    vms = [str(uuid4()) for _ in range(4)]
    first = engine.run(engine.make(wide(2, vms=vms[:2], title="a")))
    second = engine.run(engine.make(wide(2, vms=vms[2:], title="b")))
    assert (executing(first), executing(second)) == (2, 0)
    assert engine.step(second, "b0").reason == (
        "2 VMs of this environment are being changed or not well, and it lets 2 be at once."
    )
    engine.release("a0")
    assert (executing(first), executing(second)) == (1, 1)
    engine.release("a1", "b0")
    engine.release("b1")
    assert engine.state(second) == "executed"


def test_so_many_failed_branches_are_tolerated_and_no_more(engine: Engine) -> None:
    def batches(*results: str) -> Block:
        leaves = (L(f"vm {one}", told(str(one), word)) for one, word in enumerate(results))
        return S(P(*leaves), L("next", told("next")))

    policy = {"on_failure": {"tolerated": "25%", "siblings": "finish", "then": "hold"}}
    task = engine.run(engine.make(batches("ok", "fail", "ok", "ok"), policy=policy))
    assert (task.state, engine.steps(task)["next"]) == ("executed", "done")
    assert task.reason == "1 failed branch is tolerated."
    assert engine.recorded[-1] == ([], {})  # as far as it got: not “all of it”
    more = engine.run(engine.make(batches("ok", "fail", "fail", "ok"), policy=policy))
    assert (more.state, engine.steps(more)["next"]) == ("failed", "pending")
    # Again: only what failed.
    Step.objects.filter(task=more).update(action={"kind": "told", "name": "", "results": ["ok"]})
    Step.objects.filter(task=more, kind="register").update(action={"kind": "register"})
    assert engine.run(more).state == "executed"
    assert dict(more.steps.filter(block__always=False).values_list("text", "attempt")) == {
        "0": 1,
        "1": 2,
        "2": 2,
        "3": 1,
        "next": 1,
    }


def test_then_stop_lets_nothing_new_begin(engine: Engine) -> None:
    tree = P(L("a", told("1", "fail")), L("b", told("2", "slow"), told("3")))
    policy = {"on_failure": {"tolerated": 0, "siblings": "finish", "then": "stop"}}
    task = engine.make(tree, policy=policy)
    engine.run(task)
    engine.release("2")
    assert (engine.state(task), engine.steps(task)["3"]) == ("failed", "pending")


def test_approvals_stand_where_the_policy_says_and_take_a_role_and_a_time(
    engine: Engine, olga: User, actor_of: Callable[[User], Actor]
) -> None:
    policy = {
        "approvals": [
            {"name": "Go", "at": "start", "role": "operator", "timeout_seconds": 60},
            {"name": "Next", "at": "batch"},
        ]
    }
    tree = S(P(L("a", told("1")), L("b", told("2"))), P(L("c", told("3")), L("d", told("4"))))
    tree = S(*(replace_made_by(block) for block in tree.children))
    task = engine.run(engine.make(tree, policy=policy))
    go = engine.step(task, "Wait for approval: Go")
    assert (task.state, go.state, "of the role operator until" in go.reason) == (
        *("stopped", "paused"),
        True,
    )
    with pytest.raises(Forbidden, match="role operator"):
        planwork.approve(engine.alice, task, path=go.path)
    Step.objects.filter(pk=go.pk).update(result={"until": "2020-01-01T00:00:00+00:00"})
    with pytest.raises(Conflict, match="has run out"):
        planwork.approve(actor_of(olga), task, path=go.path)
    engine.run(task)  # continuing asks anew
    assert engine.state(task) == "stopped"
    planwork.approve(actor_of(olga), task, path=go.path)
    engine.settle()
    assert engine.step(task, "Wait for approval: Go").reason == "Approved by olga."
    assert engine.steps(task) | {"3": "pending"} == engine.steps(task)
    between = engine.step(task, "Wait for approval: Next")
    assert between.number == 4
    planwork.approve(engine.alice, task, path=between.path)
    engine.settle()
    assert engine.state(task) == "executed"
    assert engine.reread(task).started_by_id == engine.alice.user_id


def replace_made_by(block: Block) -> Block:
    from dataclasses import replace

    return replace(block, made_by="rolling")


def test_a_gate_follows_each_batch_and_looks_at_the_vms_that_it_touched(engine: Engine) -> None:
    vms = [str(uuid4()) for _ in range(3)]
    leaves = [
        L(f"vm {one}", told(str(one), container={"vm": vm}), key=f"vm-{one}")
        for one, vm in enumerate(vms)
    ]
    tree = S(replace_made_by(P(*leaves[:2])), leaves[2])
    gate = {"probe": "port", "port": 80, "deadline_seconds": 30}
    task = engine.make(tree, policy={"gate": gate})
    rows = task.steps.filter(kind="check").select_related("block").order_by("number")
    assert [(one.block.path, one.text, one.action["container"]["vm"]) for one in rows] == [
        ("0_1_1_2_1", "Check the health of vm-0", vms[0]),
        ("0_1_1_2_2", "Check the health of vm-1", vms[1]),
        ("0_1_1_4", "Check the health of vm-2", vms[2]),
    ]
    assert rows[0].action["port"] == 80


def test_a_step_that_asks_to_be_run_again_is_and_one_without_an_end_is_ended(
    engine: Engine, settings: Any
) -> None:
    task = engine.make(L("leaf", told("1", "retry"), told("2", "slow")))
    engine.run(task)
    assert (engine.steps(task)["1"], engine.step(task, "1").reason) == ("executing", "Not yet.")
    engine.pass_time()
    engine.pass_time()
    step = engine.step(task, "1")
    assert (step.state, step.attempt, step.retries) == ("done", 1, 2)
    settings.DEPLOYMENT_STEP_SECONDS = 0
    engine.pass_time()
    assert engine.step(task, "2").reason == "No end within 0 s."
    assert engine.state(task) == "failed"


def test_stop_is_graceful_and_a_forced_cancel_ends_what_is_stuck(
    engine: Engine, olga: User, actor_of: Callable[[User], Actor]
) -> None:
    task = engine.make(P(L("a", told("1", "slow"), told("2")), L("b", told("3", "slow"))))
    engine.run(task)
    control.stop(engine.alice, task)
    assert engine.state(task) == "stopping"
    with pytest.raises(Conflict, match="is stopping"):
        control.stop(engine.alice, task)
    engine.release("1", "3")
    assert engine.steps(task) == {"1": "done", "2": "pending", "3": "done"}
    assert engine.state(task) == "stopped"
    assert engine.run(task).state == "executed"
    assert engine.step(task, "1").attempt == 1
    control.archive(engine.alice, task)
    assert engine.state(task) == "done"
    kept = Task.objects.beyond_retention()
    assert not kept.exists()
    long_ago = timezone.now() - timedelta(days=366)
    Task.objects.filter(pk=task.pk).update(finished_at=long_ago)
    assert kept.get() == task
    with pytest.raises(Conflict, match="is done"):
        engine.start(task)

    stuck = engine.make(L("a", told("s", "slow")))
    engine.run(stuck)
    with pytest.raises(Forbidden):
        control.force_cancel(actor_of(olga), stuck)
    control.force_cancel(engine.alice, stuck)
    engine.settle()
    assert (engine.state(stuck), engine.steps(stuck)["s"]) == ("cancelled", "failed")
    removed = engine.make(L("a", told("s")))
    control.cancel(engine.alice, removed)
    assert not Task.objects.filter(pk=removed.pk).exists()
