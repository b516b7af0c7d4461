"""A VM's way from request to proof of its end, on simulated hosts over HTTP."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from hosts import inventory
from hosts.models import HostCapacity
from orchestrator.refusals import Conflict
from vms import ending, templates, verbs
from vms.models import VirtualMachine

if TYPE_CHECKING:
    from tests.vms.conftest import Pool, Worker

pytestmark = pytest.mark.stores


def charges() -> dict[str, int]:
    return {row.host.name: row.cpus_charged for row in HostCapacity.objects.select_related("host")}


def reread(vm: VirtualMachine) -> VirtualMachine:
    return VirtualMachine.objects.select_related("host", "lease", "create_job").get(pk=vm.pk)


def test_a_vm_is_placed_created_gets_its_ip_and_leaves_nothing(pool: Pool, worker: Worker) -> None:
    before = pool.simulation.all_vm_names()
    vm = pool.ask(name="build-1")
    assert vm.state == "pending"
    job = worker.finish(vm.create_job)
    vm = reread(vm)
    assert (job.state, job.error) == ("done", "")
    assert vm.state == "running"
    assert vm.ip_address
    assert vm.lease.ends_at
    assert sum(charges().values()) == 2
    placement = vm.placements.get()
    assert placement.host_name.startswith("build-1-")
    assert placement.host_name in pool.simulation.all_vm_names()

    done = worker.finish(verbs.execute(pool.bob, vm, command="echo hello"))
    assert done.result == {"exit_code": 0, "stdout": "hello\n", "stderr": "", "timed_out": False}

    worker.finish(verbs.stop(pool.bob, reread(vm)))
    assert reread(vm).state == "stopped"
    assert sum(charges().values()) == 2  # a stopped VM keeps its charge
    worker.finish(verbs.start(pool.bob, reread(vm)))
    assert reread(vm).state == "running"

    worker.finish(ending.request_delete(pool.bob, reread(vm)))
    vm = reread(vm)
    assert vm.state == "deleted"
    assert sum(charges().values()) == 0
    assert pool.simulation.all_vm_names() == before
    with pytest.raises(Conflict):
        ending.request_delete(pool.bob, vm)


def test_a_clone_is_made_where_its_source_is_with_the_size_that_was_asked_for(
    pool: Pool, worker: Worker
) -> None:
    golden = {"name": "golden", "state": "stopped", "cpus": 1, "memory": 512, "disk": 10}
    pool.simulation.control(2, vms=[golden])
    inventory.refresh(pool.hosts[1])
    template = templates.create_template(
        pool.alice,
        name="from-golden",
        clone_of="golden",
        cpus=3,
        memory_mib=3072,
        disk_gib=10,
        default_lease_seconds=60,
        maximum_lease_seconds=60,
    )
    vm = pool.ask(pool.alice, template=template)
    job = worker.finish(vm.create_job)
    vm = reread(vm)
    assert (job.state, vm.state, vm.host) == ("done", "running", pool.hosts[1])
    made = next(one for one in pool.simulation.control(2)["vms"] if one["name"] != "golden")
    assert (made["cpus"], made["memory"]) == (3, 3072)
    assert pool.simulation.vm_names(1) == []
    worker.finish(ending.request_delete(pool.alice, vm))
    assert pool.simulation.vm_names(2) == ["golden"]
