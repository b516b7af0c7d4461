"""Killed workers, lost and doubled messages, a flushed Redis: nothing lost, nothing twice."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, nullcontext
from typing import TYPE_CHECKING

import httpx
import pytest
import redis

from tests.support.product import OwnRedis, running_product, until
from tests.support.team import Team, make_team, ok

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.support.simulation import Simulation

pytestmark = [pytest.mark.faults, pytest.mark.e2e]


@pytest.fixture(scope="module")
def own_redis(tmp_path_factory: pytest.TempPathFactory) -> Iterator[OwnRedis]:
    """A Redis that these tests flush and stop."""
    server = OwnRedis(tmp_path_factory.mktemp("redis"))
    server.start()
    yield server
    server.stop()


@pytest.fixture(scope="module")
def team(
    tmp_path_factory: pytest.TempPathFactory, own_redis: OwnRedis, simulation: Simulation
) -> Iterator[Team]:
    """One running product for all of these tests: each leaves its pool as it found it."""
    with running_product(tmp_path_factory.mktemp("product"), own_redis) as product:
        yield make_team(product, simulation)


@pytest.fixture(autouse=True)
def _empty_pool(team: Team) -> Iterator[None]:
    yield
    team.delete_all()


def our_vms(team: Team, name: str) -> list[str]:
    return [one for one in team.simulation.all_vm_names() if one.startswith(f"{name}-")]


def gone(team: Team, vm_id: str) -> None:
    ok(team.bob.request("DELETE", f"/vms/{vm_id}/"))
    team.until_state(vm_id, "deleted", "cancelled")
    until(lambda: set(team.charged().values()) == {0}, 60, "every charge is released")


@contextmanager
def late_addresses(team: Team) -> Iterator[None]:
    """Let VMs run for longer than the longest pause between two looks before they have an address.

    A create whose VM has its address at the first look has no step that waits for it.
    """
    before = team.simulation.control(1)["boot_seconds"]
    team.simulation.control(boot_seconds=16.0)  # the address comes a quarter of this later
    try:
        yield
    finally:
        team.simulation.control(boot_seconds=before)


def test_a_worker_killed_at_each_step_of_a_create_leaves_exactly_one_vm(team: Team) -> None:
    for moment in (
        "create:before",
        "create:after",
        "watch:settle",
        "confirm:settle",
        "address:settle",
    ):
        name = f"kill-{moment.replace(':', '-')}"
        team.product.kill("calls")
        team.product.start("calls", JOBS_DIE_AT=f"vm.create:{moment}")
        with late_addresses(team) if moment.startswith("address") else nullcontext():
            vm = team.ask(name=name)
            team.product.wait_dead("calls", 60)
        team.product.start("calls")
        team.until_state(vm["id"], "running")
        assert len(our_vms(team, name)) == 1, moment
        assert sum(team.charged().values()) == 2, moment
        gone(team, vm["id"])


def test_a_worker_killed_at_each_step_of_a_delete_leaves_nothing(team: Team) -> None:
    for moment in ("stop:before", "stop:after", "delete:before", "delete:after", "prove:settle"):
        name = f"kill-{moment.replace(':', '-')}"
        vm = team.ask(name=name)
        team.until_state(vm["id"], "running")
        team.product.kill("calls")
        team.product.start("calls", JOBS_DIE_AT=f"vm.delete:{moment}")
        ok(team.bob.request("DELETE", f"/vms/{vm['id']}/"))
        team.product.wait_dead("calls")
        team.product.start("calls")
        team.until_state(vm["id"], "deleted")
        assert our_vms(team, name) == [], moment
        until(lambda: set(team.charged().values()) == {0}, 60, "the charge is released")


def test_a_worker_killed_at_each_step_of_a_clone_leaves_exactly_one_clone_or_none(
    team: Team,
) -> None:
    source = team.ask(name="source", start=False)
    team.until_state(source["id"], "stopped")
    for moment in ("create:before", "create:after", "configure:before", "configure:after"):
        name = f"clone-{moment.replace(':', '-')}"
        team.product.kill("calls")
        team.product.start("calls", JOBS_DIE_AT=f"vm.create:{moment}")
        job = ok(team.bob.post(f"/vms/{source['id']}/clone/", json={"name": name}))
        team.product.wait_dead("calls")
        team.product.start("calls")
        vm_id = job["subject"].partition(":")[2]
        found = team.until_state(vm_id, "running", "failed")
        # A call that was never sent is told from one that goes on by time alone, and not repeated.
        assert (found["state"] == "failed") == (moment == "create:before"), moment
        clones = 0 if found["state"] == "failed" else 1
        assert len(our_vms(team, name)) == clones, moment
        assert sum(team.charged().values()) == 2 + 2 * clones, moment
        if clones:
            ok(team.bob.request("DELETE", f"/vms/{vm_id}/"))
            team.until_state(vm_id, "deleted")


def test_a_worker_killed_around_a_resize_sends_it_once_more_and_charges_it_once(
    team: Team,
) -> None:
    vm = team.ask(name="resize", start=False)
    team.until_state(vm["id"], "stopped")
    for cpus, moment in enumerate(("send:before", "send:after", "send:settle"), start=3):
        team.product.kill("calls")
        team.product.start("calls", JOBS_DIE_AT=f"vm.resize:{moment}")
        ok(team.bob.post(f"/vms/{vm['id']}/resize/", json={"cpus": cpus}))
        team.product.wait_dead("calls")
        team.product.start("calls")
        until(lambda cpus=cpus: team.vm(vm["id"])["cpus"] == cpus, 60, f"{moment}: it has {cpus}")  # type: ignore[misc]
        assert sum(team.charged().values()) == cpus, moment
        (host,) = [one for one in team.simulation.control()["hosts"] if one["vms"]]
        assert [one["cpus"] for one in host["vms"]] == [cpus], moment


def test_a_killed_execute_is_never_sent_twice_and_says_outcome_unknown(team: Team) -> None:
    vm = team.ask(name="command")
    team.until_state(vm["id"], "running")
    team.product.kill("calls")
    team.product.start("calls", JOBS_DIE_AT="vm.execute:send:after")
    job = ok(team.bob.post(f"/vms/{vm['id']}/execute/", json={"command": "echo once"}))
    team.product.wait_dead("calls")
    team.product.start("calls")

    def ended() -> dict[str, object] | None:
        now: dict[str, object] = ok(team.bob.get(f"/jobs/{job['id']}/"))
        return now if now["state"] == "failed" else None

    found = until(ended, 60, "the job ends")
    assert str(found["error"]).startswith("Outcome unknown")
    gone(team, vm["id"])


def test_a_web_process_killed_among_requests_makes_one_vm_of_each_repeated_request(
    team: Team,
) -> None:
    def ask(number: int) -> str:
        """Ask as a careful pipeline does: again, with the same key, until there is an answer."""

        def answered() -> str | None:
            try:
                answer = team.bob.post(
                    "/vms/",
                    json={"template": "ubuntu-ci", "name": f"web-{number}", "cpus": 1},
                    headers={"Idempotency-Key": f"web-{number}"},
                )
            except httpx.HTTPError:
                return None
            return str(ok(answer)["id"])

        return str(until(answered, 60, f"request {number} is answered"))

    with ThreadPoolExecutor(4) as threads:
        asked = [threads.submit(ask, number) for number in range(12)]
        until(lambda: any(one.done() for one in asked), 60, "the first request is accepted")
        team.product.kill("web")
        team.product.start("web")
        ids = [one.result() for one in asked]
    assert len(set(ids)) == 12
    for vm_id in ids:
        team.until_state(vm_id, "running")
    assert len(our_vms(team, "web")) == 12
    assert sum(team.charged().values()) == 12


def test_with_beat_killed_and_two_beats_in_its_place_every_tick_still_acts_once(
    team: Team,
) -> None:
    team.product.kill("beat")
    vms = [team.ask(name=f"beat-{number}") for number in range(3)]
    team.product.start("beat")
    team.product.start("beat-2")
    for vm in vms:
        team.until_state(vm["id"], "running")
        ok(team.bob.post(f"/vms/{vm['id']}/extend/", json={"lease_seconds": 1}))
    for vm in vms:
        team.until_state(vm["id"], "deleted")
        subject = {"subject": f"vm:{vm['id']}", "action": "vm.lease_ended"}
        assert len(ok(team.admin.get("/audit/", params=subject))["results"]) == 1
    team.product.kill("beat-2")
    assert set(team.charged().values()) == {0}
    assert "intact" in team.product.manage("verify_audit")


def test_a_killed_watcher_loses_no_change_and_another_takes_its_hosts_over(team: Team) -> None:
    def followed() -> bool:
        return all(host["events_live"] for host in ok(team.admin.get("/hosts/"))["results"])

    team.product.start("watcher")
    until(followed, 60, "every host is followed")
    team.product.start("watcher-2")
    vms = [team.ask(name=f"watch-{number}") for number in range(3)]
    team.product.kill("watcher")
    for vm in vms:
        team.until_state(vm["id"], "running")
    until(
        lambda: sum(host["subscribers"] for host in team.simulation.control()["hosts"]) == 3,
        60,
        "the other one follows all three",
    )
    until(followed, 60, "every host is followed again")
    assert len(our_vms(team, "watch")) == 3
    team.product.kill("watcher-2")


def test_every_bell_rung_twice_makes_one_vm_each(team: Team) -> None:
    for name in ("web", "steps", "calls", "beat"):
        team.product.kill(name)
        team.product.start(name, JOBS_RING_TWICE="true")
    team.product.wait_ready()
    vms = [team.ask(name=f"twice-{number}") for number in range(4)]
    for vm in vms:
        team.until_state(vm["id"], "running")
    assert len(our_vms(team, "twice")) == 4
    assert sum(team.charged().values()) == 8


def test_redis_flushed_in_the_middle_loses_nothing(team: Team, own_redis: OwnRedis) -> None:
    vms = []
    for number in range(6):
        vms.append(team.ask(name=f"flush-{number}"))
        own_redis.client().flushall()
    for vm in vms:
        team.until_state(vm["id"], "running")
        own_redis.client().flushall()
    assert len(our_vms(team, "flush")) == 6
    assert sum(team.charged().values()) == 12


def test_with_the_broker_away_a_post_is_accepted_and_done_after_its_return(
    team: Team, own_redis: OwnRedis
) -> None:
    own_redis.stop()
    with pytest.raises(redis.RedisError):
        own_redis.client().ping()
    answer = team.bob.post(
        "/vms/", json={"template": "ubuntu-ci", "name": "offline"}, timeout=5
    )  # the promise is one second
    assert answer.status_code == 202, answer.text
    assert ok(team.bob.get(f"/vms/{answer.json()['id']}/"))["state"] == "pending"
    ready = httpx.get(f"{team.product.url}/readyz", timeout=10)
    assert (ready.status_code, ready.json()["status"]) == (200, "degraded")
    own_redis.start()
    team.until_state(answer.json()["id"], "running", seconds=90)


def test_a_late_create_leaves_one_vm_and_the_stray_is_deleted(team: Team) -> None:
    for number in (1, 2):
        team.simulation.control(number, faults={"latecreate": 1}, late_seconds=8)
    vm = team.ask(name="late")
    found = team.until_state(vm["id"], "running", seconds=120)
    team.simulation.control(1, faults=None)
    team.simulation.control(2, faults=None)
    until(
        lambda: our_vms(team, "late") == [found["host_name"]],
        120,
        "only the current VM is left",
    )
    until(lambda: sum(team.charged().values()) == 2, 60, "one charge is left")
