"""Deployments by real workers that are killed: nothing runs twice, and a person goes on."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import pytest

from tests.support.product import OwnRedis, running_product, until
from tests.support.team import Team, make_team, ok

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.support.simulation import Simulation

pytestmark = [pytest.mark.faults, pytest.mark.e2e]

# By the domain's functions: the names of VMs, then packages as documents.
MAKE = """
from accounts.actors import Actor
from accounts.models import User
from deployments import environments, packages
from vms.models import VirtualMachine

admin = Actor(user=User.objects.get(username="admin"))
vms = VirtualMachine.objects.filter(state="running").order_by("name")
environments.create_environment(admin, name="staging", members=[{"vm": vm} for vm in vms])
def script(name, text):
    return {"name": name, "type": "script", "tags": [], "properties": {"script": text}}
one = packages.create_package(admin, {"application": "One", "version": "1.0", "deployables": [
    script("a", "echo one >> /log"), script("b", "sleep 4 ; echo two >> /log"),
    script("c", "echo three >> /log")]})
parts = [packages.create_package(admin, {"application": name, "version": "1.0", "deployables": [
    script(name.lower(), f"sleep 1 ; echo {name} >> /suite")]}) for name in ("Base", "Shop")]
suite = packages.create_package(admin, {"application": "Suite", "version": "1.0",
    "packages": [{"application": name, "version": "1.0"} for name in ("Base", "Shop")],
    "orchestrators": ["sequential-by-composite-package", "parallel-by-container"]})
print(one.pk, suite.pk)
"""


@pytest.fixture(scope="module")
def team(tmp_path_factory: pytest.TempPathFactory, simulation: Simulation) -> Iterator[Team]:
    """A running product with six running VMs of Bob's."""
    redis = OwnRedis(tmp_path_factory.mktemp("redis"))
    redis.start()
    with running_product(tmp_path_factory.mktemp("product"), redis) as product:
        made = make_team(product, simulation)
        asked = [made.ask(name=f"vm-{number}") for number in range(6)]
        for vm in asked:
            made.until_state(vm["id"], "running")
        yield made
        made.delete_all()
    redis.stop()


@pytest.fixture(scope="module")
def packages(team: Team) -> tuple[str, str]:
    """Return the ids of two packages: scripts on one VM, and a composite of two for all six."""
    one, suite = team.product.manage("shell", "-v", "0", "-c", MAKE).split()[-2:]
    return one, suite


class Driving:
    """A task, by API."""

    def __init__(self, team: Team, **asked: Any) -> None:
        self.api = team.admin
        self.id = ok(self.api.post("/tasks/", json={"environment": "staging", **asked}))["id"]

    def post(self, verb: str, **body: Any) -> Any:
        return ok(self.api.post(f"/tasks/{self.id}/{verb}/", json=body))

    @property
    def state(self) -> str:
        return str(ok(self.api.get(f"/tasks/{self.id}/"))["state"])

    def steps(self) -> dict[str, str]:
        path = f"/tasks/{self.id}/steps/"
        found = ok(self.api.get(path, params={"page_size": 200}))["results"]
        return {one["text"]: one["state"] for one in found}

    def until(self, *states: str, seconds: float = 60) -> str:
        def reached() -> str | None:
            now = self.state
            return now if now in states else None

        return str(until(reached, seconds, f"the task is {' or '.join(states)}: {self.state}"))


def in_guest(team: Team, name: str, command: str) -> str:
    vm = ok(team.bob.get("/vms/", params={"name": name}))["results"]
    (found,) = [one for one in vm if one["name"] == name]
    job = team.bob.post(
        f"/vms/{found['id']}/execute/", json={"command": command}, headers={"Prefer": "wait=30"}
    )
    return str(ok(job)["result"]["stdout"])


def test_e13_a_killed_worker_fails_the_step_that_ran_and_a_person_continues(
    team: Team, packages: tuple[str, str]
) -> None:
    vm = next(one for one in ok(team.bob.get("/vms/"))["results"] if one["name"] == "vm-0")
    where = {name: [f"vm:{vm['id']}"] for name in ("a", "b", "c")}
    task = Driving(team, package=packages[0], mapping=where)
    waiting, scheduled = (Driving(team, package=packages[1]) for _ in range(2))
    scheduled.post("schedule", at=(datetime.now(UTC) + timedelta(days=1)).isoformat())
    task.post("start")
    until(lambda: _under_way(team, task), 30, "the guest runs the second step")
    team.product.kill("calls")
    team.product.kill("steps")
    team.product.start("calls")
    team.product.start("steps")
    task.until("failed")
    assert {text: state for text, state in task.steps().items() if "Execute" in text} == {
        "Execute a on vm-0": "done",
        "Execute b on vm-0": "failed",
        "Execute c on vm-0": "pending",
    }
    assert (waiting.state, scheduled.state) == ("pending", "scheduled")
    task.post("continue")
    task.until("executed")
    assert in_guest(team, "vm-0", "cat /log").splitlines().count("one") == 1
    for one in (waiting, scheduled):
        one.post("cancel")


def _under_way(team: Team, task: Driving) -> bool:
    """Return whether the command of the second step has been sent."""
    if task.steps()["Execute b on vm-0"] != "executing":
        return False
    asked = {"kind": "vm.execute", "state": "running"}
    return bool(ok(team.admin.get("/jobs/", params=asked))["results"])


def test_a_suite_on_six_vms_pauses_survives_its_workers_and_each_step_runs_once(
    team: Team, packages: tuple[str, str]
) -> None:
    task = Driving(team, package=packages[1])
    blocks = ok(team.admin.get(f"/tasks/{task.id}/plan/"))["blocks"]
    assert [one["kind"] for one in blocks if one["path"].count("_") == 3] == ["parallel"] * 2
    task.post("pause", path="0_1_1_2_1_1")
    task.post("start")
    until(lambda: "executing" in task.steps().values(), 30, "it runs")
    # Not while a command is under way, which nobody could tell the outcome of: these hold state.
    team.product.kill("steps")
    team.product.kill("beat")
    team.product.start("steps")
    team.product.start("beat")
    task.until("stopped")
    assert task.steps()["Pause the execution"] == "paused"
    task.post("continue")
    task.until("executed", seconds=90)
    assert set(task.steps().values()) == {"done"}
    for number in range(6):
        assert in_guest(team, f"vm-{number}", "cat /suite") == "Base\nShop\n"
    back = task.post("rollback")["result"]["task"]
    assert task.state == "done"
    job = team.admin.post(f"/tasks/{back}/start/", headers={"Prefer": "wait=30"})
    assert ok(job)["result"]["state"] == "executed"
