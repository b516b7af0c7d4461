"""A VM becomes a template, by a clone on its simulated host."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from django.urls import reverse

from hosts import inventory
from hosts.models import HostCapacity, HostVM
from jobs.models import Job
from orchestrator.refusals import Conflict, Forbidden
from tests.api.conftest import Api, make_token
from tests.vms.conftest import reread
from vms import ending, verbs
from vms.models import Template, VirtualMachine

if TYPE_CHECKING:
    from django.test import Client

    from accounts.models import User
    from tests.vms.conftest import Pool, Worker

pytestmark = pytest.mark.stores


@pytest.fixture
def vm(pool: Pool, worker: Worker) -> VirtualMachine:
    """A stopped VM of Alice's on the first host."""
    made = pool.ask(pool.alice, name="golden", start=False, cpus=3, host=pool.hosts[0])
    worker.finish(made.create_job)  # type: ignore[arg-type]
    return reread(made)


def disk(vm: VirtualMachine) -> tuple[int, int]:
    has = HostCapacity.objects.get(pk=vm.host_id)
    return has.disk_gib_foreign, has.disk_gib_charged


def test_its_clone_is_foreign_and_vms_of_the_template_are_cloned_from_it(
    pool: Pool, worker: Worker, vm: VirtualMachine
) -> None:
    job = verbs.clone_to_template(pool.alice, vm, name="Golden 1")
    assert disk(vm) == (0, 128)  # charged before the host is asked
    worker.until(lambda: Job.objects.get(pk=job.pk).step == "make" or disk(vm)[0])
    assert worker.finish(job).state == "done", job.error
    assert disk(vm) == (64, 64)
    template = Template.objects.get(name="Golden 1")
    assert job.result["template"] == str(template.pk)
    assert (template.cpus, template.memory_mib, template.default_lease_seconds) == (3, 2048, 3600)
    assert template.clone_of.startswith("template-golden-1-")
    inventory.refresh(vm.host)  # type: ignore[arg-type]
    assert disk(vm) == (64, 64)
    assert not HostVM.objects.get(name=template.clone_of).claimed
    worker.finish(ending.request_delete(pool.alice, vm))
    made = pool.ask(pool.alice, template=template, name="from-golden")
    assert worker.finish(made.create_job).state == "done"  # type: ignore[arg-type]
    assert reread(made).state == "running"


def test_a_lost_worker_makes_neither_twice(pool: Pool, worker: Worker, vm: VirtualMachine) -> None:
    """Lost after the clone, and again after the template was made."""
    job = verbs.clone_to_template(pool.alice, vm, name="golden")
    worker.until(lambda: pool.simulation.control(1)["requests"].get("clone"))
    Job.objects.filter(pk=job.pk).update(step="send", state="queued", finished_at=None)
    worker.finish(job)
    Job.objects.filter(pk=job.pk).update(step="make", state="queued", finished_at=None)
    assert worker.finish(job).state == "done", job.error
    assert pool.simulation.control(1)["requests"]["clone"] == 1
    assert Template.objects.filter(name="golden").count() == 1
    assert disk(vm) == (64, 64)


def test_a_clone_that_does_not_come_is_given_back(
    pool: Pool, worker: Worker, vm: VirtualMachine
) -> None:
    pool.simulation.control(1, faults={"failcreate": 1})
    job = worker.finish(verbs.clone_to_template(pool.alice, vm, name="never"))
    assert (job.state, disk(vm)) == ("failed", (0, 64))
    assert not Template.objects.filter(name="never").exists()


def test_it_is_refused_with_a_reason(pool: Pool, worker: Worker, vm: VirtualMachine) -> None:
    with pytest.raises(Forbidden):
        verbs.clone_to_template(pool.bob, vm, name="x")
    with pytest.raises(Conflict, match="template of this name"):
        verbs.clone_to_template(pool.alice, vm, name="UBUNTU-CI")
    HostCapacity.objects.filter(pk=vm.host_id).update(disk_gib_total=100)
    with pytest.raises(Conflict, match="no room for the disk"):
        verbs.clone_to_template(pool.alice, vm, name="x")
    inventory.refresh(vm.host)  # type: ignore[arg-type]
    worker.finish(verbs.start(pool.alice, vm))
    with pytest.raises(Conflict, match="needs it to be stopped"):
        verbs.clone_to_template(pool.alice, reread(vm), name="x")
    assert disk(vm) == (0, 64)


def test_by_page_and_api(
    pool: Pool, worker: Worker, vm: VirtualMachine, client: Client, alice: User
) -> None:
    client.force_login(alice)
    dialog = reverse("vms:clone-to-template", args=[vm.pk])
    assert dialog in client.get(reverse("vms:detail", args=[vm.pk])).content.decode()
    assert client.post(dialog, {"name": "ubuntu-ci"}).status_code == 409
    assert client.post(dialog, {"name": "paged"}).status_code == 303
    worker.until(lambda: Template.objects.filter(name="paged").exists())
    worker.until(lambda: not Job.objects.open().exists())
    answer = Api(make_token(alice)).post(f"vms/{vm.pk}/clone-to-template/", {"name": "asked"})
    assert (answer.status_code, answer.json()["kind"]) == (202, "vm.clone_to_template")
