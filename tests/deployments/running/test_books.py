"""Real packages through the engine: what is registered, rolled back, refused when it changed."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from deployments import environments
from deployments.models import Block, Step, Task
from deployments.running import actions, control
from deployments.running.actions import Action, Run
from deployments.running.results import Failure, Result, Success
from orchestrator.refusals import Conflict
from tests.deployments.conftest import Fleet, fleet, script
from tests.deployments.running.conftest import Engine

if TYPE_CHECKING:
    from deployments.models import Package

__all__ = ["fleet"]

pytestmark = pytest.mark.stores
broken: set[str] = set()


class Scripted(Action):
    """`vm.execute` without a guest: fails as long as its script is in `broken`."""

    def begin(self, run: Run) -> Result:
        script = run.action["script"]
        return Failure(f"{script}: no.") if script in broken else Success(script)


@pytest.fixture
def engine(fleet: Fleet, monkeypatch: pytest.MonkeyPatch) -> Engine:
    monkeypatch.setitem(actions._actions, "vm.execute", Scripted())
    broken.clear()
    assert fleet.environment is not None
    return Engine(fleet.alice, fleet.environment)


def plan(fleet: Fleet, package: Package, **options: Any) -> Task:
    prepared = fleet.prepare(package, **options)
    asked = {"package": str(package.pk), **options}
    return control.create(fleet.alice, prepared, asked=asked)


def run(engine: Engine, fleet: Fleet, package: Package, **options: Any) -> Task:
    return engine.run(plan(fleet, package, **options))


def roll_back(engine: Engine, task: Task) -> Task:
    job = control.roll_back(engine.alice, engine.reread(task))
    return Task.objects.get(pk=job.result["task"])


def texts(task: Task) -> list[str]:
    rows = Step.objects.filter(task=task, block__always=False).order_by("number")
    return list(rows.values_list("text", flat=True))


def test_e8_a_cancelled_deployment_leaves_what_was_really_done(
    engine: Engine, fleet: Fleet
) -> None:
    package = fleet.package(deployables=[script("x", tags=["db"]), script("y", tags=["db"])])
    mapping = {"x": [fleet.path("db-1")], "y": [fleet.path("db-1")]}
    broken.add("do y")
    task = run(engine, fleet, package, mapping=mapping)
    assert (task.state, fleet.on()) == ("failed", {})
    control.cancel(engine.alice, task)
    assert engine.state(task) == "cancelled"
    assert fleet.on() == {"Shop": ("1.0", ["x@db-1"])}
    # What is left to do is what a new deployment does.
    broken.clear()
    assert texts(run(engine, fleet, package, mapping=mapping)) == ["Execute y on db-1"]
    assert fleet.on() == {"Shop": ("1.0", ["x@db-1", "y@db-1"])}


def test_e10_rolling_a_forced_redeploy_back_undoes_and_does_again(
    engine: Engine, fleet: Fleet
) -> None:
    package = fleet.package(deployables=[script("command1", undo="undo it")])
    mapping = {"command1": [fleet.path("db-1")]}
    run(engine, fleet, package, mapping=mapping)
    forced = run(engine, fleet, package, mapping=mapping, options={"force_redeploy": True})
    both = ["Undo command1 on db-1", "Execute command1 on db-1"]
    assert texts(forced) == both
    back = roll_back(engine, forced)
    assert (texts(back)[:2], engine.state(forced)) == (both, "done")
    assert engine.run(back).state == "executed"
    assert fleet.on() == {"Shop": ("1.0", ["command1@db-1"])}


def test_e11_an_update_with_other_orchestrators_is_rolled_back(
    engine: Engine, fleet: Fleet
) -> None:
    def version(number: str, *orchestrators: str) -> Package:
        deployables = [script("setup", script=f"do {number}")]
        return fleet.package(
            version=number, deployables=deployables, orchestrators=list(orchestrators)
        )

    run(engine, fleet, version("1.0", "parallel-by-container"))
    update = run(engine, fleet, version("2.0", "sequential-by-container"))
    assert (update.kind, update.state) == ("update", "executed")
    assert fleet.on()["Shop"][0] == "2.0"
    back = roll_back(engine, update)
    assert (back.kind, back.rollback_of_id) == ("rollback", update.pk)
    assert engine.run(back).state == "executed"
    assert fleet.on()["Shop"][0] == "1.0"
    with pytest.raises(Conflict, match="This task is done"):
        roll_back(engine, update)


def test_a_failed_deployment_is_rolled_back_as_far_as_it_got_by_its_policy(
    engine: Engine, fleet: Fleet
) -> None:
    package = fleet.package(
        deployables=[script("x", undo="undo x"), script("y", undo="undo y")],
        policy={"on_failure": {"then": "rollback"}},
    )
    mapping = {"x": [fleet.path("db-1")], "y": [fleet.path("db-1")]}
    broken.add("do y")
    task = run(engine, fleet, package, mapping=mapping)
    assert task.state == "cancelled"
    back = Task.objects.get(rollback_of=task)
    assert (back.state, texts(back)) == ("executed", ["Undo x on db-1"])
    assert fleet.on() == {}
    assert [note.verb for note in task.notes.all()][-3:] == ["failed", "registered", "rolled back"]


def test_e15_an_unchanged_package_has_only_the_register_phase(engine: Engine, fleet: Fleet) -> None:
    package = fleet.package(deployables=[script()])
    run(engine, fleet, package)
    again = run(engine, fleet, package)
    assert again.state == "executed"
    labels = Block.objects.filter(task=again).order_by("path").values_list("path", "label")
    assert [path for path, _ in labels] == ["0", "0_1", "0_1_1"]
    assert "Register changes" in dict(labels)["0_1"]


def test_what_changed_since_it_was_planned_refuses_the_start_and_an_undeployment_runs(
    engine: Engine, fleet: Fleet
) -> None:
    package = fleet.package(deployables=[script()])
    task = plan(fleet, package)
    environments.add_member(engine.alice, engine.environment, vm=fleet.vm("web-3"))
    with pytest.raises(Conflict) as refusal:
        engine.start(task)
    assert refusal.value.code == "plan_changed"
    assert engine.state(task) == "pending"
    run(engine, fleet, package)
    assert fleet.on()["Shop"][1][-1] == "setup@web-3"
    gone = run(engine, fleet, package, operation="undeploy")
    assert (gone.kind, gone.state, fleet.on()) == ("undeployment", "executed", {})
