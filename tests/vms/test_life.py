"""A VM's way from request to proof of its end, on simulated hosts over HTTP."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from hosts.models import HostCapacity
from orchestrator.refusals import Conflict
from vms import ending, verbs
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
