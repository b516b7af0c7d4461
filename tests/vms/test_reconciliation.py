"""What a host's list means: changed outside, missing, strays, leases, removal."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from django.db.models.functions import Now

from hosts import inventory, removal
from hosts.models import HostCapacity, HostVM
from jobs.models import Job
from orchestrator.refusals import Conflict
from vms import ending, leases, verbs
from vms.models import Lease, Placement, Template, VirtualMachine

if TYPE_CHECKING:
    from django.test import Client

    from accounts.models import User
    from hosts.models import Host
    from tests.vms.conftest import Pool, Worker

pytestmark = pytest.mark.stores


@pytest.fixture
def vm(pool: Pool, worker: Worker) -> VirtualMachine:
    made = pool.ask(name="build")
    worker.finish(made.create_job)
    return VirtualMachine.objects.select_related("host").get(pk=made.pk)


def number_of(pool: Pool, vm: VirtualMachine) -> int:
    assert vm.host
    return [host.pk for host in pool.hosts].index(vm.host.pk) + 1


def change(pool: Pool, vm: VirtualMachine, **values: object) -> None:
    number = number_of(pool, vm)
    listed = pool.simulation.control(number)["vms"]
    for one in listed:
        one.update(values)
    pool.simulation.control(number, vms=listed)


def test_a_vm_stopped_on_its_host_is_shown_stopped(pool: Pool, vm: VirtualMachine) -> None:
    change(pool, vm, state="stopped")
    inventory.refresh(vm.host)  # type: ignore[arg-type]
    vm.refresh_from_db()
    assert (vm.state, vm.observed_state, vm.desired_state) == ("stopped", "stopped", "running")


def test_a_vm_that_the_list_lacks_is_missing_not_failed(pool: Pool, vm: VirtualMachine) -> None:
    inventory.refresh(vm.host)  # type: ignore[arg-type]
    pool.simulation.control(number_of(pool, vm), vms=[])
    inventory.refresh(vm.host)  # type: ignore[arg-type]
    vm.refresh_from_db()
    assert vm.missing_since is None  # one empty list says nothing
    inventory.refresh(vm.host)  # type: ignore[arg-type]
    vm.refresh_from_db()
    assert vm.missing_since
    assert vm.state == "running"


def test_ours_are_claimed_and_foreign_ones_count(pool: Pool, vm: VirtualMachine) -> None:
    number = number_of(pool, vm)
    listed = pool.simulation.control(number)["vms"]
    foreign = {"name": "golden", "state": "running", "cpus": 3, "memory": 1024, "disk": 10}
    pool.simulation.control(number, vms=[*listed, foreign])
    inventory.refresh(vm.host)  # type: ignore[arg-type]
    capacity = HostCapacity.objects.get(host=vm.host)
    assert (capacity.cpus_foreign, capacity.cpus_charged) == (3, 2)
    assert dict(HostVM.objects.filter(host=vm.host).values_list("name", "claimed")) == {
        "golden": False,
        vm.placements.get().host_name: True,
    }


def test_a_stray_of_ours_is_deleted_and_a_foreign_vm_is_not(
    pool: Pool, vm: VirtualMachine, worker: Worker
) -> None:
    placement = vm.placements.get()
    number = number_of(pool, vm)
    listed = pool.simulation.control(number)["vms"]
    foreign = {"name": "golden-0123456789abcdef", "state": "running", "cpus": 1, "memory": 1024}
    pool.simulation.control(number, vms=[*listed, foreign])
    Placement.objects.filter(pk=placement.pk).update(current=False, abandoned_at=Now())
    inventory.refresh(vm.host)  # type: ignore[arg-type]
    worker.until(lambda: pool.simulation.vm_names(number) == ["golden-0123456789abcdef"])
    worker.until(lambda: Placement.objects.get(pk=placement.pk).closed_at)
    assert HostCapacity.objects.get(host=vm.host).cpus_charged == 0


def test_the_same_id_on_two_hosts_is_told_on_both_and_on_the_vm_and_does_nothing_else(
    pool: Pool, vm: VirtualMachine, worker: Worker, client: Client, alice: User
) -> None:
    number = number_of(pool, vm)
    other = pool.hosts[number % 3]
    copied = pool.simulation.control(number)["vms"]  # with its id, its name and our mark
    pool.simulation.control(number % 3 + 1, vms=copied)
    for host in (vm.host, other):
        inventory.refresh(host)  # type: ignore[arg-type]
    assert vm.host
    client.force_login(alice)
    for host, twin in ((vm.host, other), (other, vm.host)):
        page = client.get(f"/hosts/{host.pk}/").content.decode()
        assert 'id="twins"' in page
        assert f"the same id is on {twin.name}" in page
    page = client.get(f"/vms/{vm.pk}/").content.decode()
    assert f"also listed by {other.name}" in page
    assert 'id="twins"' not in client.get(f"/hosts/{third(pool, vm, other).pk}/").content.decode()
    # The copy is foreign on its host, whatever becomes of ours.
    assert HostVM.objects.get(host=other).claimed is False
    worker.finish(ending.request_delete(pool.bob, vm))
    inventory.refresh(other)
    worker.until(lambda: not Job.objects.open().exists())
    vm.refresh_from_db()
    assert vm.state == "deleted"
    assert pool.simulation.vm_names(number) == []
    assert pool.simulation.vm_names(number % 3 + 1) == [copied[0]["name"]]
    assert 'id="twins"' not in client.get(f"/vms/{vm.pk}/").content.decode()


def third(pool: Pool, vm: VirtualMachine, other: Host) -> Host:
    return next(host for host in pool.hosts if host.pk not in (vm.host_id, other.pk))


@pytest.mark.parametrize(
    ("end", "state"), [("delete", "deleted"), ("stop", "stopped"), ("suspend", "suspended")]
)
def test_a_lease_ends_as_its_template_says(
    pool: Pool, vm: VirtualMachine, worker: Worker, end: str, state: str
) -> None:
    Template.objects.update(lease_end=end)
    Lease.objects.update(ends_at=Now())
    assert leases.watch() == 1
    worker.until(lambda: VirtualMachine.objects.get(pk=vm.pk).state == state)
    assert leases.watch() == 0


def test_extending_moves_the_end_and_a_suspended_vm_starts_again(
    pool: Pool, vm: VirtualMachine, worker: Worker
) -> None:
    before = Lease.objects.get(vm=vm).ends_at
    leases.extend(pool.bob, vm, seconds=7200)
    assert Lease.objects.get(vm=vm).ends_at > before
    worker.finish(verbs.suspend(pool.bob, vm))
    vm.refresh_from_db()
    job = worker.finish(verbs.start(pool.bob, vm))
    assert job.state == "done"


def test_a_host_with_vms_is_removed_only_with_forgetting_them(
    pool: Pool, vm: VirtualMachine
) -> None:
    assert vm.host
    with pytest.raises(Conflict):
        removal.remove(pool.alice, vm.host, forget_vms=False)
    removal.remove(pool.alice, vm.host, forget_vms=True)
    vm.refresh_from_db()
    assert vm.state == "forgotten"
    assert HostCapacity.objects.get(host=vm.host).cpus_charged == 0


def test_a_command_in_a_stopped_vm_is_refused(
    pool: Pool, vm: VirtualMachine, worker: Worker
) -> None:
    worker.finish(verbs.stop(pool.bob, vm, force=True))
    vm.refresh_from_db()
    with pytest.raises(Conflict):
        verbs.execute(pool.bob, vm, command="true")
    with pytest.raises(Conflict):
        verbs.stop(pool.bob, vm)
