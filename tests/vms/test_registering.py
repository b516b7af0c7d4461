"""Registering and unregistering VMs of a simulated host's disk."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from django.urls import reverse

from hosts import inventory, registering
from hosts.models import HostVM
from jobs.models import Job
from orchestrator.refusals import Conflict, Forbidden, Invalid, NotFound
from tests.api.conftest import Api, is_problem, make_token
from vms import adoption

if TYPE_CHECKING:
    from django.test import Client

    from accounts.models import User
    from hosts.models import Host
    from tests.vms.conftest import Pool, Worker

pytestmark = pytest.mark.stores
PATH = "/Users/parallels/Parallels/golden.pvm"
OTHER = {"name": "other"}


@pytest.fixture
def host(pool: Pool) -> Host:
    """A host with the stopped foreign VM `golden`, and another one, listed."""
    pool.simulation.control(1, vms=[OTHER, {"name": "golden", "state": "stopped", "disk": 50}])
    inventory.refresh(pool.hosts[0])
    return pool.hosts[0]


def golden(host: Host) -> HostVM:
    return HostVM.objects.exclude(name="other").get(host=host)


def test_a_foreign_vm_leaves_the_list_and_comes_back(
    pool: Pool, worker: Worker, host: Host
) -> None:
    vm_id = golden(host).host_vm_id
    job = registering.unregister(pool.alice, host, host_vm_id=vm_id)
    with pytest.raises(Conflict, match="being unregistered"):
        adoption.adopt(pool.alice, host, host_vm_id=vm_id, template=pool.template)  # type: ignore[arg-type]
    assert worker.finish(job).state == "done", job.error
    assert (HostVM.objects.get(host=host).name, pool.simulation.vm_names(1)) == ("other", ["other"])
    assert pool.simulation.control(1)["bundles"] == [PATH]
    job = worker.finish(registering.register(pool.alice, host, path=PATH + "/", name="silver"))
    assert job.state == "done", job.error
    assert job.result == {"host_vm_id": vm_id, "name": "silver"}
    assert (golden(host).name, golden(host).claimed) == ("silver", False)
    job = worker.finish(registering.register(pool.alice, host, path=PATH))
    assert (job.state, "registered already" in job.error) == ("failed", True)


def test_a_copy_gets_another_id(pool: Pool, worker: Worker, host: Host) -> None:
    vm_id = golden(host).host_vm_id
    worker.finish(registering.unregister(pool.alice, host, host_vm_id=vm_id))
    job = worker.finish(registering.register(pool.alice, host, path=PATH, new_id=True))
    assert job.result["host_vm_id"] not in ("", vm_id)


def test_a_running_vm_is_refused_by_its_host(pool: Pool, worker: Worker, host: Host) -> None:
    vm_id = golden(host).host_vm_id
    pool.simulation.control(1, vms=[OTHER, {"id": vm_id, "name": "golden", "state": "running"}])
    job = worker.finish(registering.unregister(pool.alice, host, host_vm_id=vm_id))
    assert (job.state, "is running" in job.error) == ("failed", True)
    assert pool.simulation.vm_names(1) == ["golden", "other"]


def test_what_is_ours_is_not_unregistered(pool: Pool, worker: Worker, host: Host) -> None:
    vm_id = golden(host).host_vm_id
    job = registering.unregister(pool.alice, host, host_vm_id=vm_id)
    HostVM.objects.update(claimed=True)  # a list that takes it for ours comes between
    assert "ours" in worker.finish(job).error
    with pytest.raises(Conflict, match="Let it go first"):
        registering.unregister(pool.alice, host, host_vm_id=vm_id)
    assert pool.simulation.vm_names(1) == ["golden", "other"]


def test_it_is_refused_with_a_reason(pool: Pool, host: Host) -> None:
    with pytest.raises(Forbidden):
        registering.register(pool.bob, host, path=PATH)
    with pytest.raises(NotFound):
        registering.unregister(pool.alice, host, host_vm_id="{0}")
    for path in ("golden.pvm", "/tmp/golden", "/tmp/a\nb.pvm"):
        with pytest.raises(Invalid):
            registering.register(pool.alice, host, path=path)


def test_by_page_and_api(
    pool: Pool, worker: Worker, host: Host, client: Client, alice: User
) -> None:
    client.force_login(alice)
    vm_id = golden(host).host_vm_id
    page = client.get(reverse("hosts:detail", args=[host.pk])).content.decode()
    dialog = reverse("hosts:unregister", args=[host.pk])
    assert dialog in page
    assert client.get(f"{dialog}?vm=none").status_code == 404
    assert vm_id in client.get(dialog, {"vm": vm_id}).content.decode()
    assert client.post(dialog, {"host_vm_id": vm_id}).status_code == 303
    worker.until(lambda: not Job.objects.open().exists())
    register = reverse("hosts:register", args=[host.pk])
    assert client.post(register, {"path": "golden"}).status_code == 400
    assert client.post(register, {"path": PATH}).status_code == 303
    worker.until(lambda: not Job.objects.open().exists())
    api = Api(make_token(alice))
    answer = api.post(f"hosts/{host.pk}/unregister/", {"host_vm_id": golden(host).host_vm_id})
    assert (answer.status_code, answer.json()["kind"]) == (202, "host.unregister_vm")
    assert is_problem(api.post(f"hosts/{host.pk}/register/", {"path": "x"}), 400)
    answer = api.post(f"hosts/{host.pk}/register/", {"path": PATH})
    assert (answer.status_code, answer.json()["kind"]) == (202, "host.register_vm")
