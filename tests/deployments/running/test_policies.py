"""What a version and an environment say about every run: each word of a policy, with packages."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from accounts.actors import Actor
from accounts.models import Role
from deployments import environments, granting, packages, specs
from deployments.models import Block, Step, Task
from deployments.running import actions, control, planwork
from deployments.running.actions import Action, Run
from deployments.running.policy import whole_plan
from deployments.running.results import Failure, Result, Success
from orchestrator.refusals import Forbidden
from tests.deployments.conftest import Fleet, fleet, script, texts
from tests.deployments.running.conftest import Engine

if TYPE_CHECKING:
    from django.test import Client

    from accounts.models import User
    from deployments.models import Package

__all__ = ["fleet"]

pytestmark = pytest.mark.stores
broken: set[str] = set()  # names of VMs whose scripts fail
ill: set[str] = set()  # names of VMs that are not healthy


class OnVM(Action):
    """An action that fails on the VMs of a set, without a guest."""

    def __init__(self, failing: set[str]) -> None:
        self.failing = failing

    def begin(self, run: Run) -> Result:
        name = run.vm().name
        return Failure(f"{name}: no.") if name in self.failing else Success(f"{name}: yes.")


@pytest.fixture
def engine(fleet: Fleet, monkeypatch: pytest.MonkeyPatch) -> Engine:
    broken.clear()
    ill.clear()
    monkeypatch.setitem(actions._actions, "vm.execute", OnVM(broken))
    monkeypatch.setitem(actions._actions, "check", OnVM(ill))
    assert fleet.environment is not None
    return Engine(fleet.alice, fleet.environment)


def package(fleet: Fleet, version: str = "1.0", *, orchestrator: str, **policy: Any) -> Package:
    return fleet.package(
        version=version,
        deployables=[script("x", script=f"do {version}", undo="undo x", tags=["*"])],
        orchestrators=[orchestrator],
        policy=policy,
    )


def plan(fleet: Fleet, wanted: Package, **options: Any) -> Task:
    return control.create(fleet.alice, fleet.prepare(wanted, **options))


def states(task: Task) -> dict[str, str]:
    rows = Step.objects.filter(task=task, block__always=False)
    return dict(rows.values_list("text", "state"))


def test_a_gate_holds_the_next_batch_back_until_it_is_healthy(engine: Engine, fleet: Fleet) -> None:
    gate = {"probe": "agent"}
    task = plan(fleet, package(fleet, orchestrator="sequential-by-container", gate=gate))
    ill.add("web-1")
    assert engine.run(task).state == "failed"
    assert states(task) == {
        "Execute x on db-1": "done",
        "Check the health of db-1": "done",
        "Execute x on web-1": "done",
        "Check the health of web-1": "failed",
        "Execute x on web-2": "pending",
        "Check the health of web-2": "pending",
    }
    ill.clear()
    assert engine.run(task).state == "executed"
    assert engine.step(task, "Execute x on web-1").attempt == 1


def test_the_vms_of_a_batch_are_looked_at_all_at_once(engine: Engine, fleet: Fleet) -> None:
    gate = {"probe": "port", "port": 80, "minimum_healthy_seconds": 30, "deadline_seconds": 90}
    task = plan(fleet, package(fleet, orchestrator="parallel-by-container", gate=gate))
    checks = Step.objects.filter(task=task, kind="check").select_related("block__parent")
    assert {one.block.parent.kind for one in checks} == {"parallel"}  # type: ignore[union-attr]
    assert [one.block.label for one in checks] == [
        *("Health of db-1", "Health of web-1", "Health of web-2")
    ]
    whole = next(one.action for one in checks)
    assert {name: whole[name] for name in gate} == gate


def test_a_vm_that_fails_and_then_is_ill_has_failed_once(engine: Engine, fleet: Fleet) -> None:
    policy = {"gate": {"probe": "agent"}, "on_failure": {"tolerated": 1}}
    wanted = package(fleet, orchestrator="parallel-by-container", **policy)
    broken.add("web-1")
    ill.add("web-1")
    task = engine.run(plan(fleet, wanted))
    assert (task.state, task.reason) == ("executed", "1 failed branch is tolerated.")
    assert fleet.on()["Shop"][1] == ["x@db-1", "x@web-2"]
    # Another one that only its gate finds ill is one more than that.
    ill.add("db-1")
    Task.objects.filter(pk=task.pk).delete()
    fleet.undeploy(wanted)
    assert engine.run(plan(fleet, wanted)).state == "failed"


def test_siblings_go_on_as_long_as_failures_are_tolerated(engine: Engine, fleet: Fleet) -> None:
    failing = {"tolerated": "34%", "siblings": "stop"}
    wanted = fleet.package(
        deployables=[script("x", tags=["*"]), script("y", tags=["*"])],
        orchestrators=["parallel-by-container"],
        policy={"on_failure": failing},
    )
    broken.add("db-1")
    task = engine.run(plan(fleet, wanted))
    assert task.state == "executed"
    assert states(task)["Execute y on web-2"] == "done"


def test_every_run_of_a_version_has_its_policy_and_the_environments_behind_it(
    engine: Engine, fleet: Fleet
) -> None:
    environments.update_environment(
        fleet.alice,
        engine.environment,
        policy={
            "max_unavailable": 2,
            "gate": {"probe": "port", "port": 22},
            "on_failure": {"tolerated": 3, "then": "stop"},
            "approvals": [{"name": "Ours", "at": "start", "role": "Operator"}],
        },
    )
    own = {
        "gate": {"probe": "agent"},
        "on_failure": {"then": "hold"},
        "approvals": [{"name": "Theirs", "at": "start"}],
    }
    first = package(fleet, orchestrator="parallel-by-container", **own)
    second = packages.copy_package(fleet.alice, first, version="2.0", policy={})

    task = plan(fleet, first)
    assert task.policy["on_failure"] == {"tolerated": 3, "siblings": "finish", "then": "hold"}
    assert task.policy["max_unavailable"] == 2
    approvals = [text for text in states(task) if "approval" in text]
    assert approvals == ["Wait for approval: Ours", "Wait for approval: Theirs"]
    checks = Step.objects.filter(task=task, kind="check")
    assert {one.action["probe"] for one in checks} == {"agent"}
    fleet.deploy(first)
    # The version says what every run of it has, an update to it as well; else the environment does.
    update = plan(fleet, packages.copy_package(fleet.alice, first, version="1.1", policy=own))
    assert update.policy["on_failure"]["then"] == "hold"
    other = plan(fleet, fleet_package(second))
    assert other.policy["on_failure"]["then"] == "stop"
    assert {one.action["port"] for one in Step.objects.filter(task=other, kind="check")} <= {22}


def fleet_package(one: Package) -> Package:
    from deployments.models import Package

    return Package.objects.whole().get(pk=one.pk)


def test_what_goes_is_not_looked_at_and_what_is_made_is(engine: Engine, fleet: Fleet) -> None:
    gate = {"probe": "agent"}
    wanted = package(fleet, orchestrator="parallel-by-container", gate=gate)
    fleet.deploy(wanted)
    gone = plan(fleet, wanted, operation="undeploy")
    assert not Step.objects.filter(task=gone, kind="check").exists()
    engine.environment.members.create(host=fleet.hosts[0])
    machine = {"name": "box", "type": "vm", "properties": {"template": "ubuntu", "vm_name": "box"}}
    made = fleet.package("Box", deployables=[machine], policy={"gate": gate})
    prepared = fleet.prepare(made, mapping={"box": [f"host:{fleet.hosts[0].pk}"]})
    task = control.create(fleet.alice, prepared)
    check = Step.objects.get(task=task, kind="check")
    assert check.text == "Check the health of box"
    created = Step.objects.get(task=task, kind="vm.create")
    assert check.action["container"] == {"created": created.action["deployed"]}
    vm = fleet.vm("box")
    Step.objects.filter(pk=created.pk).update(state="done", result={"vm": str(vm.pk)})
    run = Run(None, Step.objects.select_related("task").get(pk=check.pk))  # type: ignore[arg-type]
    assert run.vm() == vm


def test_the_preview_has_the_numbers_of_the_task(engine: Engine, fleet: Fleet) -> None:
    approvals = [{"name": "Go", "at": "start"}, {"name": "Next", "at": "batch"}]
    wanted = package(
        fleet, orchestrator="sequential-by-container", gate={"probe": "agent"}, approvals=approvals
    )
    prepared = fleet.prepare(wanted)
    shown = whole_plan(prepared)
    assert shown is not None
    task = control.create(fleet.alice, prepared)
    rows = Step.objects.filter(task=task, block__always=False).order_by("number")
    numbered = [(step.number, step.text) for leaf in shown.leaves() for step in leaf.steps]
    assert numbered == list(rows.values_list("number", "text"))
    assert texts(shown)[0] == "Wait for approval: Go"
    assert texts(shown).count("Wait for approval: Next") == 2
    labels = dict(Block.objects.filter(task=task).values_list("label", "made_by"))
    assert labels["Approval: Go"] == "approval"
    assert labels["Check the health after Deploy on db-1"] == "health gate"


def test_a_rollback_by_policy_waits_for_no_approval_and_one_by_a_person_does(
    engine: Engine, fleet: Fleet
) -> None:
    wanted = package(
        fleet,
        orchestrator="sequential-by-container",
        on_failure={"then": "rollback"},
        approvals=[{"name": "Go", "at": "start"}],
    )
    broken.add("web-1")
    task = engine.run(plan(fleet, wanted))
    go = engine.step(task, "Wait for approval: Go")
    planwork.approve(engine.alice, task, path=go.path)
    engine.settle()
    back = Task.objects.get(rollback_of=task)
    assert (back.state, states(back)) == ("executed", {"Undo x on db-1": "done"})
    broken.clear()
    again = engine.run(plan(fleet, wanted))
    planwork.approve(engine.alice, again, path=engine.step(again, "Wait for approval: Go").path)
    engine.settle()
    job = control.roll_back(engine.alice, engine.reread(again))
    by_hand = Task.objects.get(pk=job.result["task"])
    assert "Wait for approval: Go" in states(by_hand)


def test_skipping_is_no_way_around_an_approver(
    engine: Engine, fleet: Fleet, olga: User, client: Client
) -> None:
    role = Role.objects.get(group__name="Operator")
    wanted = package(
        fleet,
        orchestrator="parallel-by-container",
        approvals=[{"name": "Go", "at": "start", "role": "Auditor"}],
    )
    assert "deployments.skip" in role.permissions
    task = engine.run(plan(fleet, wanted))
    go = engine.step(task, "Wait for approval: Go")
    for path in (go.path, "0_1"):
        with pytest.raises(Forbidden, match="role Auditor"):
            planwork.skip(Actor(olga), task, paths=[path])
    assert engine.step(task, "Wait for approval: Go").state == "paused"
    planwork.skip(Actor(olga), task, paths=[engine.step(task, "Execute x on db-1").path])

    def offered() -> set[str]:
        page = client.get(f"/tasks/{task.pk}/", {"step": go.path}).content.decode()
        return {verb for verb in ("skip", "approve") if f"/steps/{go.path}/{verb}/" in page}

    client.force_login(olga)
    assert offered() == set()
    olga.groups.add(Role.objects.get(group__name="Auditor").group)
    assert offered() == {"skip", "approve"}
    Step.objects.filter(pk=go.pk).update(result={"until": "2020-01-01T00:00:00+00:00"})
    assert offered() == {"skip"}  # too late: continuing asks anew


def test_an_approver_that_nobody_is_is_warned_of(engine: Engine, fleet: Fleet) -> None:
    wanted = package(
        fleet,
        orchestrator="parallel-by-container",
        approvals=[{"name": "Go", "at": "start", "role": "Nobodies"}],
    )
    found = {one.code: one.text for one in fleet.prepare(wanted).warnings}
    assert found["no_approver"] == "There is no role Nobodies, which is to approve “Go”."


def test_who_may_not_deploy_there_or_act_on_its_vms_is_told_in_the_preview(
    engine: Engine, fleet: Fleet, olga: User, audrey: User, client: Client
) -> None:
    wanted = package(fleet, orchestrator="parallel-by-container")

    def warned(user: User) -> dict[str, str]:
        found = specs.prepare(actor=Actor(user), environment=engine.environment, package=wanted)
        return {one.code: one.text for one in found.warnings}

    assert not {"not_yours", "restricted"} & warned(olga).keys()
    assert warned(audrey)["not_yours"].startswith("You may not act on db-1, web-1, web-2")
    granting.restrict(fleet.alice, engine.environment)
    assert warned(olga)["restricted"] == (
        "Staging is restricted, and you are not on its list: this is for looking at, and somebody "
        "else may start it."
    )
    client.force_login(olga)
    chosen = {"environment": str(engine.environment.pk), "package": str(wanted.pk)}
    page = client.get("/deployments/new/", chosen).content.decode()
    assert "this is for looking at" in page
    assert 'name="then"' not in page
    granting.restrict(fleet.alice, engine.environment, restricted=False)
    assert 'name="then"' in client.get("/deployments/new/", chosen).content.decode()


def test_an_exclusive_environment_has_one_deployment_at_a_time(
    engine: Engine, fleet: Fleet
) -> None:
    environments.update_environment(fleet.alice, engine.environment, policy={"exclusive": True})
    first = package(fleet, orchestrator="parallel-by-container")
    other = fleet.package("Other", deployables=[script("z", tags=["*"])])
    tasks = [plan(fleet, first), plan(fleet, other)]
    control.start(engine.alice, tasks[0])
    from jobs import running

    running.run_job(engine.reread(tasks[0]).job_id)  # type: ignore[arg-type]
    assert engine.state(tasks[0]) == "executing"
    control.start(engine.alice, tasks[1])
    running.run_job(engine.reread(tasks[1]).job_id)  # type: ignore[arg-type]
    waits = engine.reread(tasks[1])
    assert waits.state == "queued"
    assert "has this environment until it is done with it" in waits.reason
    engine.settle()
    engine.pass_time()
    assert [engine.state(one) for one in tasks] == ["executed", "executed"]
