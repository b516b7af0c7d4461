"""Foreign VMs become ours and foreign again, on simulated hosts over HTTP."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any
from urllib.parse import quote
from uuid import uuid4

import pytest
from django.db.models.functions import Now
from django.urls import reverse

from accounts.actors import Actor
from accounts.models import AuditEvent
from hosts import inventory, lifecycle
from hosts.calls import driver_of
from hosts.models import HostCapacity, HostVM
from jobs.models import Job
from orchestrator.db.clock import database_now
from orchestrator.refusals import Conflict, Forbidden, NotFound
from tests.api.conftest import Api, is_problem, make_token
from tests.vms.conftest import reread
from vms import adoption, ending, leases, templates, verbs
from vms.models import Grant, Lease, Placement, VirtualMachine

if TYPE_CHECKING:
    from django.test import Client

    from accounts.models import User
    from hosts.models import Host
    from tests.vms.conftest import Pool, Worker

pytestmark = pytest.mark.stores
GOLDEN = {"name": "golden", "state": "running", "cpus": 3, "memory": 4096, "disk": 50}


@pytest.fixture
def host(pool: Pool) -> Host:
    """A host with the foreign VM `golden`, listed."""
    put(pool, GOLDEN)
    return pool.hosts[0]


def put(pool: Pool, *vms: dict[str, Any]) -> None:
    """Make these the VMs of the first host, and have it listed."""
    pool.simulation.control(1, vms=list(vms))
    inventory.refresh(pool.hosts[0])


def listed(host: Host, name: str = "golden") -> HostVM:
    return HostVM.objects.get(host=host, name=name)


def take(pool: Pool, host: Host, **options: Any) -> Job:
    options.setdefault("template", pool.template)
    options.setdefault("owner", pool.bob.user)
    options.setdefault("host_vm_id", listed(host).host_vm_id)
    return adoption.adopt(pool.alice, host, **options)


def vm_of(job: Job) -> VirtualMachine:
    return reread(VirtualMachine.objects.get(pk=job.subject_id))


def use(host: Host) -> tuple[tuple[int, int, int], tuple[int, int, int]]:
    """Return (cpus, memory, disk) that are foreign, and those that are charged."""
    has = HostCapacity.objects.get(pk=host.pk)
    return (
        (has.cpus_foreign, has.memory_mib_foreign, has.disk_gib_foreign),
        (has.cpus_charged, has.memory_mib_charged, has.disk_gib_charged),
    )


ALL = (3, 4096, 50)
NONE = (0, 0, 0)


def test_adopting_moves_its_use_from_foreign_to_charged_at_once(
    pool: Pool, worker: Worker, host: Host
) -> None:
    assert use(host) == (ALL, NONE)
    job = take(pool, host, name="kept", lease_seconds=600)
    assert use(host) == (NONE, ALL)
    vm = vm_of(job)
    assert (vm.state, vm.desired_state, vm.requested_by, vm.grant) == (
        "running",
        "running",
        pool.bob.user,
        pool.grant,
    )
    assert (vm.cpus, vm.memory_mib, vm.disk_gib, vm.lease_seconds) == (*ALL, 600)
    assert listed(host).claimed
    placement = vm.placements.get()
    assert worker.finish(job).state == "done", job.error
    name = f"kept-{placement.mark}"
    assert pool.simulation.vm_names(1) == [name]
    inventory.refresh(host)
    assert use(host) == (NONE, ALL)
    assert vm.placements.get().host_name == name
    assert reread(vm).missing_since is None
    event = AuditEvent.objects.get(action="vm.adopted")
    assert (event.data["host_name"], event.data["owner"]) == ("golden", "bob")


def test_its_owner_acts_on_it_and_its_end_is_as_of_every_vm(
    pool: Pool, worker: Worker, host: Host
) -> None:
    vm = vm_of(worker.finish(take(pool, host)))
    assert vm.name == "golden"
    assert worker.finish(verbs.execute(pool.bob, vm, command="true")).result["exit_code"] == 0
    assert worker.finish(verbs.stop(pool.bob, vm)).state == "done"
    worker.finish(verbs.resize(pool.bob, reread(vm), cpus=4))
    assert use(host)[1] == (4, 4096, 50)
    worker.finish(verbs.start(pool.bob, reread(vm)))
    assert Lease.objects.get(vm=vm).ends_at
    Lease.objects.update(ends_at=Now())
    assert leases.watch() == 1
    worker.until(lambda: reread(vm).state == "deleted")
    assert (pool.simulation.vm_names(1), use(host)) == ([], (NONE, NONE))


def test_a_stopped_vm_is_charged_in_full_or_refused(pool: Pool, worker: Worker) -> None:
    host = pool.hosts[0]
    put(pool, GOLDEN | {"state": "stopped"})
    assert use(host) == ((0, 0, 50), NONE)
    pool.ask(pool.alice, name="large", cpus=10, host=host)
    worker.until(lambda: use(host)[1][0] == 10)
    with pytest.raises(Conflict, match="no room") as refused:
        take(pool, host)
    assert refused.value.code == "no_room"
    assert use(host)[0] == (0, 0, 50)
    assert not listed(host).claimed


def test_a_grant_is_taken_as_if_its_owner_had_asked(pool: Pool, host: Host, charlie: User) -> None:
    with pytest.raises(Conflict, match="charlie may not have a VM"):
        take(pool, host, owner=charlie)
    Grant.objects.filter(pk=pool.grant.pk).update(maximum_vms=1)  # type: ignore[union-attr]
    take(pool, host)
    assert Grant.objects.get(user=pool.bob.user).vms == 1
    with pytest.raises(Conflict, match="1 VMs of this template"):
        put(pool, GOLDEN | {"id": listed(host).host_vm_id}, GOLDEN | {"name": "other"})
        take(pool, host, host_vm_id=listed(host, "other").host_vm_id)


def test_it_takes_the_rights_over_hosts_and_all_vms(pool: Pool, host: Host) -> None:
    with pytest.raises(Forbidden):
        adoption.adopt(
            pool.bob,
            host,
            host_vm_id=listed(host).host_vm_id,
            template=pool.template,  # type: ignore[arg-type]
        )
    vm = vm_of(take(pool, host))
    with pytest.raises(Forbidden):
        adoption.let_go(pool.bob, vm)


def test_what_cannot_be_adopted_says_why(pool: Pool, worker: Worker, host: Host) -> None:
    with pytest.raises(NotFound, match="lists no such VM"):
        take(pool, host, host_vm_id="{0}")
    job = take(pool, host)
    with pytest.raises(Conflict, match="ours already"):
        take(pool, host)
    worker.finish(job)
    put(pool, GOLDEN | {"state": "starting"})
    with pytest.raises(Conflict, match="It is starting"):
        take(pool, host)
    put(pool, GOLDEN)
    templates.create_template(
        pool.alice,
        name="from-golden",
        clone_of="golden",
        cpus=1,
        memory_mib=1024,
        disk_gib=10,
        default_lease_seconds=60,
        maximum_lease_seconds=60,
    )
    with pytest.raises(Conflict, match="from-golden are cloned from"):
        take(pool, host)


def test_a_list_in_between_finds_it_by_its_id(pool: Pool, worker: Worker, host: Host) -> None:
    """Both a list before the rename, and one that began before it and is recorded after it."""
    job = take(pool, host)
    vm = vm_of(job)
    inventory.refresh(host)
    assert (use(host), listed(host).claimed) == ((NONE, ALL), True)
    began_at = database_now()
    with driver_of(host) as driver:
        old = driver.inventory()
    worker.finish(job)
    inventory.record(host, lifecycle.Listing(began_at, old))
    assert (use(host), reread(vm).missing_since) == ((NONE, ALL), None)
    # Whoever renames it on its host does not take it away either.
    put(pool, GOLDEN | {"id": vm.placements.get().host_vm_id, "name": "renamed-there"})
    assert (use(host), listed(host, "renamed-there").claimed) == ((NONE, ALL), True)


def test_a_lost_worker_leaves_it_ours_and_the_rename_is_repeated(
    pool: Pool, worker: Worker, host: Host
) -> None:
    """Lost after the rename and before the job says so: the job looks first."""
    job = take(pool, host)
    vm = vm_of(job)
    placement = vm.placements.get()
    with driver_of(host) as driver:
        driver.rename(placement.host_vm_id, f"golden-{placement.mark}")
    inventory.refresh(host)
    assert use(host) == (NONE, ALL)
    renames = pool.simulation.control(1)["requests"]["rename"]
    assert worker.finish(job).state == "done"
    assert pool.simulation.control(1)["requests"]["rename"] == renames
    assert vm.placements.get().host_name == f"golden-{placement.mark}"


def test_a_host_that_renames_only_stopped_vms_does_it_later(
    pool: Pool, worker: Worker, host: Host
) -> None:
    pool.simulation.control(1, renames_running=False)
    job = worker.finish(take(pool, host))
    vm = vm_of(job)
    assert job.state == "done"
    assert "keeps its name" in vm.problem
    inventory.refresh(host)
    assert use(host) == (NONE, ALL)
    assert not Job.objects.open().exists()  # it runs still: nothing to try
    worker.finish(verbs.stop(pool.bob, vm))
    inventory.refresh(host)
    worker.until(lambda: not Job.objects.open().exists())
    placement = vm.placements.get()
    assert pool.simulation.vm_names(1) == [f"golden-{placement.mark}"]
    inventory.refresh(host)
    assert not Job.objects.open().exists()


def test_a_clear_no_while_it_is_stopped_is_shown_and_not_repeated(
    pool: Pool, worker: Worker, host: Host
) -> None:
    put(pool, GOLDEN | {"state": "stopped"})
    job = take(pool, host)
    placement = Placement.objects.get()
    taken = {"name": f"golden-{placement.mark}", "state": "stopped"}
    pool.simulation.control(1, vms=[GOLDEN | {"state": "stopped"}, taken])
    job = worker.finish(job)
    assert job.state == "failed"
    assert "already exists" in vm_of(job).problem
    inventory.refresh(host)
    assert not Job.objects.open().exists()


def test_letting_go_gives_its_name_back_and_nothing_deletes_it(
    pool: Pool, worker: Worker, host: Host
) -> None:
    vm = vm_of(worker.finish(take(pool, host)))
    began_at = database_now()
    with driver_of(host) as driver:
        old = driver.inventory()
    job = worker.finish(adoption.let_go(pool.alice, vm))
    assert job.state == "done", job.error
    assert pool.simulation.vm_names(1) == ["golden"]
    assert (reread(vm).state, use(host)) == ("forgotten", (ALL, NONE))
    assert not listed(host).claimed
    # Neither a list from before, which shows our mark, nor the mark put back there by hand.
    inventory.record(host, replace(lifecycle.Listing(began_at, old)))
    assert use(host) == (ALL, NONE)
    mark = vm.placements.get().mark
    put(pool, GOLDEN | {"name": f"golden-{mark}"})
    worker.until(lambda: not Job.objects.open().exists())
    assert pool.simulation.vm_names(1) == [f"golden-{mark}"]
    assert use(host) == (ALL, NONE)
    # It may come back.
    put(pool, GOLDEN)
    assert worker.finish(take(pool, host)).state == "done"


def test_a_vm_that_we_made_is_let_go_under_its_name_without_the_mark(
    pool: Pool, worker: Worker
) -> None:
    made = pool.ask(pool.alice, name="Build.1", host=pool.hosts[0])
    worker.finish(made.create_job)  # type: ignore[arg-type]
    worker.finish(adoption.let_go(pool.alice, reread(made)))
    assert pool.simulation.vm_names(1) == ["build-1"]
    assert use(pool.hosts[0]) == ((2, 2048, 64), NONE)


def test_a_delete_while_it_is_let_go_wins(pool: Pool, worker: Worker, host: Host) -> None:
    vm = vm_of(worker.finish(take(pool, host)))
    going = adoption.let_go(pool.alice, vm)
    worker.finish(ending.request_delete(pool.bob, reread(vm)))
    worker.finish(going)
    assert (going.state, reread(vm).state, use(host)) == ("cancelled", "deleted", (NONE, NONE))


def test_adopting_and_letting_go_by_page(
    pool: Pool, worker: Worker, host: Host, client: Client, alice: User, bob: User
) -> None:
    client.force_login(alice)
    dialog = f"{reverse('vms:adopt', args=[host.pk])}?vm={quote(listed(host).host_vm_id)}"
    page = client.get(reverse("hosts:detail", args=[host.pk])).content.decode()
    assert f'href="{dialog}"' in page
    assert f'value="{listed(host).host_vm_id}"' in client.get(dialog).content.decode()
    values = {"host_vm_id": listed(host).host_vm_id, "template": pool.template.pk}  # type: ignore[union-attr]
    answer = client.post(dialog, values | {"owner": bob.pk, "lease_seconds": "9d"})
    assert (answer.status_code, b"leases of 1 to 7200" in answer.content) == (400, True)
    answer = client.post(dialog, values | {"owner": bob.pk})
    vm = VirtualMachine.objects.get()
    assert (answer.status_code, answer["Location"]) == (303, reverse("vms:detail", args=[vm.pk]))
    assert client.get(dialog).status_code == 404  # ours by now
    worker.until(lambda: not Job.objects.open().exists())
    let_go = reverse("vms:let-go", args=[vm.pk])
    assert let_go in client.get(reverse("vms:detail", args=[vm.pk])).content.decode()
    assert client.post(let_go).status_code == 303
    worker.until(lambda: reread(vm).state == "forgotten")
    client.force_login(bob)
    assert client.get(dialog).status_code == 404


def test_adopting_and_letting_go_by_api(
    pool: Pool, worker: Worker, host: Host, alice: User, bob: User
) -> None:
    api = Api(make_token(alice))
    wanted = {"host_vm_id": listed(host).host_vm_id, "template": "ubuntu-ci", "owner": "bob"}
    assert is_problem(api.post(f"hosts/{host.pk}/adopt/", wanted | {"owner": "nobody"}), 400)
    assert is_problem(Api(make_token(bob)).post(f"hosts/{host.pk}/adopt/", wanted), 404)
    answer = api.post(f"hosts/{host.pk}/adopt/", wanted, idempotency_key="k")
    assert (answer.status_code, answer.json()["kind"]) == (202, "vm.adopt")
    assert api.post(f"hosts/{host.pk}/adopt/", wanted, idempotency_key="k").status_code == 202
    vm = VirtualMachine.objects.get()
    assert api.get(f"vms/{vm.pk}/").json()["requested_by"]["name"] == "bob"
    worker.until(lambda: not Job.objects.open().exists())
    assert is_problem(Api(make_token(bob)).post(f"vms/{vm.pk}/let-go/"), 403)
    assert api.post(f"vms/{vm.pk}/let-go/").json()["kind"] == "vm.let_go"


def test_a_token_narrowed_to_other_templates_adopts_nothing(pool: Pool, host: Host) -> None:
    from accounts.tokens import create_token

    token, _ = create_token(pool.alice, name="ci", scopes=["admin"], templates=[uuid4()])
    narrowed = Actor(user=pool.alice.user, token=token)
    with pytest.raises(Forbidden, match="narrowed"):
        adoption.adopt(
            narrowed,
            host,
            host_vm_id=listed(host).host_vm_id,
            template=pool.template,  # type: ignore[arg-type]
        )
