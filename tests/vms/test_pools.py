"""Warm pools: kept ready, claimed at once, making way, and never stale."""

from __future__ import annotations

import threading
from datetime import UTC, datetime, time, timedelta
from typing import TYPE_CHECKING, Any

import pytest
from django.db import connections
from django.urls import reverse

from accounts.actors import Actor
from hosts.models import HostHold
from jobs.models import Job
from orchestrator.refusals import Conflict, Forbidden, Invalid
from tests.api.conftest import Api, make_token
from tests.vms.conftest import reread
from vms import ending, grants, placement, pools, queue, quotas, templates
from vms.models import VirtualMachine, WarmPool
from vms.states import State

if TYPE_CHECKING:
    from django.test import Client

    from accounts.models import User
    from tests.vms.conftest import Pool, Worker


def keep_until_ready(pool: Pool, worker: Worker, size: int, kept: str = "running") -> WarmPool:
    assert pool.template
    made = pools.set_pool(pool.alice, pool.template, size=size, kept=kept)

    def ready() -> bool:
        pools.keep()
        return pools.ready(made).count() == size

    worker.until(ready)
    return WarmPool.objects.select_related("template").get(pk=made.pk)


@pytest.mark.stores
def test_who_asks_gets_one_that_is_ready_and_the_pool_is_filled_again(
    pool: Pool, worker: Worker
) -> None:
    warm = keep_until_ready(pool, worker, 2)
    before = set(warm.vms.values_list("pk", flat=True))
    assert VirtualMachine.objects.visible_to(pool.bob).count() == 0
    vm = pool.ask(name="build-1", lease_seconds=600, tags=["ci"])
    assert vm.pk in before
    assert (vm.state, vm.name, vm.requested_by, vm.pool) == (
        State.RUNNING,
        "build-1",
        pool.bob.user,
        None,
    )
    assert vm.ip_address
    assert (vm.grant, vm.lease_seconds, vm.tags) == (pool.grant, 600, ["ci"])
    ends = reread(vm).lease.ends_at - datetime.now(UTC)
    assert timedelta(seconds=590) < ends <= timedelta(seconds=600)
    assert vm.create_job
    assert (vm.create_job.kind, vm.create_job.state) == ("vm.claim", "done")

    def full() -> bool:
        pools.keep()
        return pools.ready(warm).count() == 2

    worker.until(full)
    warm.refresh_from_db()
    assert (warm.hits, warm.misses, warm.hit_rate) == (1, 0, 1.0)
    worker.finish(ending.request_delete(pool.bob, reread(vm)))


@pytest.mark.stores
def test_suspended_ones_are_resumed_for_whoever_claims_them(pool: Pool, worker: Worker) -> None:
    warm = keep_until_ready(pool, worker, 1, kept="suspended")
    vm = pool.ask()
    assert (vm.state, vm.create_job.kind) == (State.RESUMING, "vm.resume")  # type: ignore[union-attr]
    worker.finish(vm.create_job)
    assert (reread(vm).state, reread(vm).requested_by) == (State.RUNNING, pool.bob.user)
    warm.refresh_from_db()
    assert warm.hits == 1


@pytest.mark.stores
def test_of_many_who_ask_at_once_each_gets_another_one_or_none(pool: Pool, worker: Worker) -> None:
    warm = keep_until_ready(pool, worker, 2)
    asked: list[VirtualMachine] = []
    barrier = threading.Barrier(4)

    def ask() -> None:
        try:
            barrier.wait()
            asked.append(pool.ask())
        finally:
            connections.close_all()

    threads = [threading.Thread(target=ask) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len({vm.pk for vm in asked}) == 4
    assert sorted(reread(vm).state for vm in asked) == ["pending", "pending", "running", "running"]
    warm.refresh_from_db()
    assert (warm.hits, warm.misses) == (2, 2)


def test_what_the_pool_does_not_have_is_made_as_ever(pool: Pool, worker: Worker) -> None:
    warm = keep_until_ready(pool, worker, 1)
    assert pool.ask(cpus=3).state == State.PENDING
    assert pool.ask(start=False).state == State.PENDING
    (ready,) = pools.ready(warm)
    other = next(host for host in pool.hosts if host.pk != ready.host_id)
    assert pool.ask(pool.alice, host=other).state == State.PENDING
    warm.refresh_from_db()
    assert (warm.hits, warm.misses) == (0, 1)
    assert pool.ask(pool.alice, host=ready.host).pk == ready.pk


def test_neither_quota_nor_a_held_queue_is_passed_by(pool: Pool, worker: Worker) -> None:
    keep_until_ready(pool, worker, 1)
    assert pool.bob.user
    limit = quotas.set_quota(pool.alice, user=pool.bob.user, maximum_vms=0)
    assert pool.ask().state == State.PENDING
    quotas.remove_quota(pool.alice, limit)
    queue.hold(pool.alice, note="A break")
    assert pool.ask().state == State.PENDING


def test_a_name_in_use_and_a_revoked_grant_are_refused_as_ever(pool: Pool, worker: Worker) -> None:
    warm = keep_until_ready(pool, worker, 1)
    pool.ask(pool.bob, name="taken", cpus=3)
    with pytest.raises(Conflict, match="named Taken exists"):
        pool.ask(name="Taken")
    assert pool.grant
    grants.revoke_grant(pool.alice, pool.grant)
    with pytest.raises(Forbidden):
        pool.ask()
    assert pools.ready(warm).count() == 1


@pytest.mark.stores
def test_a_changed_template_discards_what_was_made_of_it_before(pool: Pool, worker: Worker) -> None:
    warm = keep_until_ready(pool, worker, 1)
    (old,) = pools.ready(warm)
    assert pool.template
    templates.update_template(pool.alice, pool.template, memory_mib=3072)
    warm = WarmPool.objects.select_related("template").get()
    assert pool.ask(template=warm.template, cpus=3).state == State.PENDING
    assert not pools.ready(warm).exists()  # from the moment of the change on

    def renewed() -> bool:
        pools.keep()
        return pools.ready(warm).exists()

    worker.until(renewed)
    worker.until(lambda: reread(old).state == State.DELETED)
    assert reread(old).reason == "Its template has changed since it was made."
    assert pools.ready(warm).get().memory_mib == 3072


def test_a_revoked_template_leaves_no_warm_vm(pool: Pool, worker: Worker) -> None:
    warm = keep_until_ready(pool, worker, 1)
    assert pool.template
    templates.revoke_template(pool.alice, pool.template)
    with pytest.raises(Conflict):
        pools.set_pool(pool.alice, reread_template(pool), size=3)

    def gone() -> bool:
        pools.keep()
        return not VirtualMachine.objects.open().exists()

    worker.until(gone)
    assert not pools.ready(warm).exists()
    assert pool.simulation.all_vm_names() == []


def reread_template(pool: Pool) -> Any:
    assert pool.template
    pool.template.refresh_from_db()
    return pool.template


@pytest.mark.stores
def test_warm_vms_make_way_for_whoever_waits_and_take_only_what_nobody_wants(
    pool: Pool, worker: Worker
) -> None:
    for host in pool.hosts[1:]:
        HostHold.objects.create(host=host, kind="cordon", reason="test")
    warm = keep_until_ready(pool, worker, 4)  # 8 of 11 CPUs
    large = pool.ask(cpus=7)
    assert placement.place_pending() == 0
    # As many as it takes, and no more; a second pass does not ask for others.
    placement.place_pending()
    deleting = VirtualMachine.objects.filter(state=State.DELETING)
    assert deleting.count() == 2
    assert {vm.reason for vm in deleting} == {"Somebody waits for its room."}
    pools.keep()  # wants to fill up again, and waits behind the large one
    worker.finish(large.create_job)
    assert reread(large).state == State.RUNNING
    assert pools.ready(warm).count() == 2
    placement.place_pending()
    assert VirtualMachine.objects.filter(pool=warm, state=State.PENDING).count() == 2


def test_in_quiet_hours_none_is_made(
    pool: Pool, worker: Worker, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert pool.template
    made = pools.set_pool(
        pool.alice, pool.template, size=1, quiet_from=time(22, 0), quiet_until=time(6, 0)
    )
    for hour, quiet in ((23, True), (3, True), (6, False), (12, False), (22, True)):
        moment = datetime(2026, 1, 1, hour, tzinfo=UTC)
        assert pools._is_quiet(made, moment) is quiet
    day = pools.set_pool(pool.alice, pool.template, quiet_from=time(8, 0), quiet_until=time(18, 0))
    assert pools._is_quiet(day, datetime(2026, 1, 1, 12, tzinfo=UTC))
    monkeypatch.setattr(pools, "_is_quiet", lambda pool, now: True)
    pools.keep()
    assert not VirtualMachine.objects.exists()
    monkeypatch.undo()
    assert pools.set_pool(pool.alice, pool.template, clear_quiet=True).quiet_from is None


def test_one_that_came_to_nothing_is_not_made_again_at_once(pool: Pool, worker: Worker) -> None:
    for number in (1, 2, 3):
        pool.simulation.control(number, faults={"failcreate": 1})
    assert pool.template
    warm = pools.set_pool(pool.alice, pool.template, size=1)
    pools.keep()
    worker.until(lambda: VirtualMachine.objects.filter(state=State.FAILED).exists())
    pools.keep()
    assert VirtualMachine.objects.filter(pool=warm).count() == 1


def test_what_somebody_stopped_and_what_is_too_much_is_discarded(
    pool: Pool, worker: Worker
) -> None:
    warm = keep_until_ready(pool, worker, 2)
    first = pools.ready(warm)[0]
    VirtualMachine.objects.filter(pk=first.pk).update(state=State.STOPPED)
    pools.keep()
    assert reread(first).state == State.DELETING
    pools.set_pool(pool.alice, warm.template, size=0)
    pools.keep()
    worker.until(lambda: not VirtualMachine.objects.open().exists())


def test_a_pool_is_set_by_operators_within_bounds(pool: Pool) -> None:
    assert pool.template
    with pytest.raises(Forbidden):
        pools.set_pool(pool.bob, pool.template, size=1)
    for wrong in (
        {"size": 101},
        {"kept": "frozen"},
        {"quiet_from": time(1, 0)},
        {"quiet_from": time(1, 0), "quiet_until": time(1, 0)},
    ):
        with pytest.raises(Invalid):
            pools.set_pool(pool.alice, pool.template, **wrong)  # type: ignore[arg-type]


def test_the_api_sets_a_pool_and_shows_its_hit_rate(
    pool: Pool, worker: Worker, alice: User, bob: User
) -> None:
    admin, api = Api(make_token(alice, "admin")), Api(make_token(bob, "vms"))
    assert pool.template
    path = f"templates/{pool.template.pk}/warm-pool/"
    assert admin.get(path).json()["size"] == 0
    body = {"size": 1, "kept": "running", "quiet_from": "22:00", "quiet_until": "06:00"}
    answer = admin.patch(path, body)
    assert answer.status_code == 200, answer.json()
    assert (answer.json()["quiet_from"], answer.json()["quiet_until"]) == ("22:00", "06:00")
    assert admin.patch(path, {"quiet_from": "noon", "quiet_until": "1"}).status_code == 400
    assert admin.patch(path, {"quiet_from": None, "quiet_until": None}).json()["quiet_from"] is None
    assert api.patch(path, {"size": 5}).status_code == 403
    keep_until_ready(pool, worker, 1)
    assert admin.get(path).json()["ready"] == 1
    made = api.post("vms/", {"template": "ubuntu-ci"}, Prefer="wait=5").json()
    assert (made["state"], made["reason"]) == ("running", "It was ready.")
    assert made["lease_ends_at"]
    assert made["host_name"].startswith("warm-ubuntu-ci-")
    shown = api.get(path).json()
    assert (shown["hits"], shown["hit_rate"]) == (1, 1.0)


def test_the_page_of_a_template_shows_its_pool(
    pool: Pool, worker: Worker, client: Client, alice: User
) -> None:
    assert pool.template
    client.force_login(alice)
    page = reverse("vms:template", args=[pool.template.pk])
    assert "None is kept ready" in client.get(page).content.decode()
    dialog = reverse("vms:warm-pool", args=[pool.template.pk])
    assert client.get(dialog).status_code == 200
    answer = client.post(
        dialog, {"size": "1", "kept": "running", "quiet_from": "22:00", "quiet_until": "06:00"}
    )
    assert answer.status_code == 303
    pools.set_pool(pool.alice, pool.template, clear_quiet=True)
    keep_until_ready(pool, worker, 1)
    pool.ask()
    shown = " ".join(client.get(page).content.decode().split())
    assert "0 of 1, running" in shown
    assert "100 % of 1 requests" in shown


def test_an_actor_without_the_right_sees_no_pool_vm(pool: Pool, worker: Worker) -> None:
    warm = keep_until_ready(pool, worker, 1)
    (vm,) = pools.ready(warm)
    with pytest.raises(Forbidden):
        ending.request_delete(Actor(user=pool.bob.user), vm)
    assert Job.objects.filter(subject=vm.subject, actor=None).exists()


def test_nobody_s_quota_keeps_a_pool_from_being_filled(pool: Pool, worker: Worker) -> None:
    assert pool.bob.user
    quotas.set_quota(pool.alice, user=pool.bob.user, maximum_vms=0)
    warm = keep_until_ready(pool, worker, 1)
    assert pools.ready(warm).count() == 1
