"""Full pools, queue order, retries elsewhere, and capacity that is never exceeded."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from hosts.models import HostCapacity, HostHold
from orchestrator.refusals import Conflict, Forbidden, Invalid
from vms import ending, placement
from vms.models import VirtualMachine

if TYPE_CHECKING:
    from tests.vms.conftest import Pool, Worker

pytestmark = pytest.mark.stores


def charged() -> int:
    return sum(HostCapacity.objects.values_list("cpus_charged", flat=True))


def test_a_full_pool_makes_a_vm_wait_with_its_reason_until_room_frees(
    pool: Pool, worker: Worker
) -> None:
    big = {"cpus": 11, "memory_mib": 1024}
    vms = [pool.ask(**big) for _ in range(4)]
    assert placement.place_pending() == 3
    waiting = VirtualMachine.objects.get(pk=vms[3].pk)
    assert waiting.state == "pending"
    assert waiting.reason == "Waiting: only 0 of 11 CPUs are free (3 hosts)."
    worker.finish(vms[0].create_job)
    worker.finish(ending.request_delete(pool.bob, VirtualMachine.objects.get(pk=vms[0].pk)))
    worker.finish(vms[3].create_job)
    assert VirtualMachine.objects.get(pk=vms[3].pk).state == "running"
    assert charged() == 33


def test_a_later_small_request_does_not_take_the_room_an_earlier_one_waits_for(pool: Pool) -> None:
    for _ in range(3):
        pool.ask(cpus=8)
    assert placement.place_pending() == 3
    for host in pool.hosts[1:]:
        HostHold.objects.create(host=host, kind="cordon", reason="test")
    large = pool.ask(cpus=10)
    small = pool.ask(cpus=2)
    urgent = pool.ask(cpus=1, priority=9)
    assert placement.place_pending() == 1
    states = dict(VirtualMachine.objects.values_list("pk", "state"))
    assert (states[large.pk], states[small.pk], states[urgent.pk]) == (
        "pending",
        "pending",
        "creating",
    )
    assert "earlier requests" in VirtualMachine.objects.get(pk=small.pk).reason


def test_a_vm_that_no_host_can_ever_take_says_so_and_blocks_nobody(pool: Pool) -> None:
    giant = pool.ask(cpus=64)
    small = pool.ask()
    assert placement.place_pending() == 1
    giant.refresh_from_db()
    small.refresh_from_db()
    assert giant.reason.startswith("No host can ever take this VM: it has only 11 CPUs for VMs")
    assert small.state == "creating"


def test_a_cordoned_host_gets_nothing_and_the_picked_host_is_the_one(pool: Pool) -> None:
    HostHold.objects.create(host=pool.hosts[0], kind="cordon", reason="new disk")
    vms = [pool.ask() for _ in range(4)]
    picked = pool.ask(pool.alice, template=pool.template, host=pool.hosts[1])
    placement.place_pending()
    chosen = {VirtualMachine.objects.get(pk=vm.pk).host for vm in vms}
    assert pool.hosts[0] not in chosen
    picked.refresh_from_db()
    assert picked.host == pool.hosts[1]
    rejection = placement.why_not_host(picked, pool.hosts[0])
    assert rejection
    assert rejection.rule == "picked"


def test_a_failed_create_is_tried_on_other_hosts_at_most_three(pool: Pool, worker: Worker) -> None:
    for number in (1, 2, 3):
        pool.simulation.control(number, faults={"failcreate": 1})
    vm = pool.ask()
    job = worker.finish(vm.create_job)
    vm.refresh_from_db()
    assert (job.state, vm.state) == ("failed", "failed")
    assert "Three hosts were tried" in vm.reason or "Three hosts were tried" in job.error
    hosts = [placed.host_id for placed in vm.placements.all()]
    assert len(hosts) == len(set(hosts)) == 3
    assert charged() == 0


def test_the_next_host_makes_it_when_one_fails(pool: Pool, worker: Worker) -> None:
    for number in (1, 2):
        pool.simulation.control(number, faults={"failcreate": 1})
    vm = pool.ask()
    worker.finish(vm.create_job)
    vm.refresh_from_db()
    assert vm.state == "running"
    assert vm.host == pool.hosts[2]
    assert charged() == 2


def test_a_host_that_loses_its_job_is_settled_by_the_list_and_another_makes_it(
    pool: Pool, worker: Worker
) -> None:
    for number in (1, 2):
        pool.simulation.control(number, faults={"losejob": 1})
    vm = pool.ask()
    worker.finish(vm.create_job, seconds=60)
    vm.refresh_from_db()
    assert vm.state == "running"
    assert vm.host == pool.hosts[2]
    assert charged() == 2
    assert len(pool.simulation.all_vm_names()) == 1


def test_names_are_unique_ignoring_case_until_the_vm_is_final(pool: Pool, worker: Worker) -> None:
    vm = pool.ask(name="Build")
    with pytest.raises(Conflict):
        pool.ask(name="build")
    ending.request_delete(pool.bob, vm)
    assert pool.ask(name="build").name == "build"


def test_a_pending_vm_is_cancelled_at_once(pool: Pool, worker: Worker) -> None:
    vm = pool.ask(cpus=64)
    job = ending.request_delete(pool.bob, vm)
    vm.refresh_from_db()
    assert vm.state == "cancelled"
    assert worker.finish(job).state == "cancelled"


def test_deleting_while_it_is_created_leaves_nothing(pool: Pool, worker: Worker) -> None:
    pool.simulation.control(1, clone_seconds=0.5)
    pool.simulation.control(2, clone_seconds=0.5)
    pool.simulation.control(3, clone_seconds=0.5)
    vm = pool.ask()
    worker.until(lambda: vm.placements.filter(create_sent_at__isnull=False).exists())
    vm.refresh_from_db()
    job = ending.request_delete(pool.bob, vm)
    worker.finish(job)
    vm.refresh_from_db()
    assert vm.state == "cancelled"
    assert charged() == 0
    assert pool.simulation.all_vm_names() == []


def test_bad_requests_are_refused_with_the_field(pool: Pool) -> None:
    for field, value in (
        ("name", "-bad"),
        ("cpus", 0),
        ("priority", 10),
        ("lease_seconds", 999_999),
    ):
        with pytest.raises(Invalid) as refusal:
            pool.ask(**{field: value})
        assert field in refusal.value.errors


def test_a_grant_with_a_maximum_is_given_back_at_the_end(pool: Pool, worker: Worker) -> None:
    from vms import grants

    assert pool.grant
    grants.revoke_grant(pool.alice, pool.grant)
    grants.grant_template(pool.alice, template=pool.template, user=pool.bob.user, maximum_vms=1)  # type: ignore[arg-type]
    vm = pool.ask()
    with pytest.raises(Forbidden) as refusal:
        pool.ask()
    assert refusal.value.code == "limit_reached"
    worker.finish(ending.request_delete(pool.bob, vm))
    assert pool.ask().state == "pending"
