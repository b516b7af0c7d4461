"""The main job, walked over HTTP against the product's real processes and simulated hosts."""

from __future__ import annotations

import secrets
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

import pytest

from tests.support.product import until
from tests.support.team import Team, make_team, ok

if TYPE_CHECKING:
    from tests.support.product import Product
    from tests.support.simulation import Simulation

pytestmark = [pytest.mark.e2e, pytest.mark.stores]


@pytest.fixture
def team(product: Product, simulation: Simulation) -> Team:
    return make_team(product, simulation)


def test_the_main_job(team: Team) -> None:
    do_the_main_job(team)


def do_the_main_job(team: Team) -> None:
    """Create, use, lease, queue and revoke, as a pipeline and its administrator do."""
    before = team.simulation.all_vm_names()

    # Bob creates four VMs, one call each, held until they run and have an address.
    def create(number: int) -> dict[str, object]:
        answer = team.bob.post(
            "/vms/",
            json={"template": "ubuntu-ci", "name": f"build-{number}"},
            headers={"Prefer": "wait=60", "Idempotency-Key": secrets.token_hex(8)},
        )
        assert answer.status_code == 201, answer.text
        assert answer.headers["Preference-Applied"] == "wait=60"
        return answer.json()

    with ThreadPoolExecutor(4) as pool:
        vms = list(pool.map(create, range(4)))
    assert {vm["state"] for vm in vms} == {"running"}
    assert len({vm["ip_address"] for vm in vms}) == 4
    assert len({vm["host_name"] for vm in vms}) == 4
    assert sum(team.charged().values()) == 8

    # A command in one of them.
    answer = team.bob.post(
        f"/vms/{vms[0]['id']}/execute/",
        json={"command": "echo hello"},
        headers={"Prefer": "wait=60"},
    )
    assert answer.status_code == 200, answer.text
    assert answer.json()["result"] == {
        "exit_code": 0,
        "stdout": "hello\n",
        "stderr": "",
        "timed_out": False,
    }

    # A lease ends: the VM is gone, its charge released, the host lists what it listed before.
    ok(team.bob.post(f"/vms/{vms[0]['id']}/extend/", json={"lease_seconds": 1}))
    team.until_state(str(vms[0]["id"]), "deleted")
    assert sum(team.charged().values()) == 6
    for vm in vms[1:3]:
        answer = team.bob.request("DELETE", f"/vms/{vm['id']}/", headers={"Prefer": "wait=60"})
        assert (answer.status_code, answer.json()["state"]) == (200, "done"), answer.text
    still = str(vms[3]["id"])
    placed = ok(team.admin.get(f"/vms/{still}/placement/"))
    assert team.simulation.all_vm_names() == sorted([*before, team.vm(still)["host_name"]])
    assert placed

    # A full pool is not an error: the VM waits, with its reason, until room frees.
    fillers = [team.ask(cpus=9)["id"] for _ in range(3)]
    for vm_id in fillers:
        team.until_state(vm_id, "running")
    waiting = team.ask(cpus=9)
    reason = until(
        lambda: (r := team.vm(waiting["id"])["reason"]) != "Waiting for a host." and r,
        30,
        "the reason is told",
    )
    assert "CPUs" in reason
    assert team.vm(waiting["id"])["state"] == "pending"
    ok(team.bob.request("DELETE", f"/vms/{fillers[0]}/"))
    team.until_state(waiting["id"], "running")

    # The grant is revoked with "delete": the next call is refused, what waits is cancelled.
    queued = team.ask(cpus=9)
    impact = ok(team.admin.get(f"/grants/{team.grant['id']}/impact/"))
    assert {hit["id"] for hit in impact["hits"]} == {
        still,
        *fillers[1:],
        waiting["id"],
        queued["id"],
    }
    ok(team.admin.post(f"/grants/{team.grant['id']}/revoke/", json={"running_vms": "delete"}))
    refused = team.bob.post("/vms/", json={"template": "ubuntu-ci"})
    assert (refused.status_code, refused.json()["code"]) == (403, "grant_revoked")
    assert team.vm(queued["id"])["state"] == "cancelled"
    for vm_id in (still, *fillers[1:], waiting["id"]):
        team.until_state(vm_id, "deleted")
    assert team.simulation.all_vm_names() == before
    assert set(team.charged().values()) == {0}
    assert "intact" in team.product.manage("verify_audit")
