"""Quotas, shares, backfill, holding the queue, and giving up: against simulated hosts."""

from __future__ import annotations

import threading
from datetime import timedelta
from typing import TYPE_CHECKING, Any

import pytest
from django.contrib.auth.models import Group
from django.db import connections
from django.urls import reverse
from django.utils import timezone

from accounts import users
from accounts.actors import Actor
from accounts.models import AuditEvent, Role, User
from hosts.models import HostHold
from orchestrator.refusals import Conflict, Forbidden, Invalid
from tests.api.conftest import Api, make_token
from tests.vms.conftest import reread
from vms import ending, grants, leases, placement, queue, quotas, verbs
from vms.models import Placement, Quota, VirtualMachine
from vms.placement import placer, views
from vms.states import State

if TYPE_CHECKING:
    from collections.abc import Callable

    from django.test import Client

    from tests.vms.conftest import Pool, Worker


def states(*vms: VirtualMachine) -> list[str]:
    return [str(reread(vm).state) for vm in vms]


@pytest.fixture
def bob_only(pool: Pool) -> User:
    assert pool.bob.user
    return pool.bob.user


@pytest.mark.stores
def test_who_is_at_their_quota_waits_and_goes_on_when_something_of_theirs_ends(
    pool: Pool, worker: Worker, bob_only: User
) -> None:
    quotas.set_quota(pool.alice, user=bob_only, maximum_vms=2)
    vms = [pool.ask() for _ in range(3)]
    assert placement.place_pending() == 2
    assert states(*vms) == ["creating", "creating", "pending"]
    assert reread(vms[2]).reason == "Waiting for its quota: bob uses 2 of 2 VMs."
    worker.finish(vms[0].create_job)
    worker.finish(ending.request_delete(pool.bob, reread(vms[0])))
    worker.until(lambda: reread(vms[2]).state == State.RUNNING)


@pytest.mark.parametrize(
    ("limits", "words"),
    [({"maximum_cpus": 5}, "4 of 5 CPUs"), ({"maximum_memory_mib": 4096}, "MiB of memory")],
)
def test_cpus_and_memory_are_limited_as_well(
    pool: Pool, bob_only: User, limits: dict[str, int], words: str
) -> None:
    quotas.set_quota(pool.alice, user=bob_only, **limits)
    vms = [pool.ask() for _ in range(3)]
    assert placement.place_pending() == 2
    assert words in reread(vms[2]).reason


def test_a_role_s_quota_is_shared_by_those_on_its_share(pool: Pool, charlie: User) -> None:
    developers = Role.objects.get(group__name="Developer")
    charlie.groups.add(developers.group)
    grants.grant_template(pool.alice, template=pool.template, user=charlie)  # type: ignore[arg-type]
    quotas.set_quota(pool.alice, role=developers, maximum_vms=1)
    first, second = pool.ask(), pool.ask(Actor(user=charlie))
    assert placement.place_pending() == 1
    assert states(first, second) == ["creating", "pending"]
    assert "the role Developer uses 1 of 1 VMs" in reread(second).reason


def test_one_who_may_borrow_gets_what_nobody_within_a_quota_wants(
    pool: Pool, charlie: User, bob_only: User
) -> None:
    grants.grant_template(pool.alice, template=pool.template, user=charlie)  # type: ignore[arg-type]
    charlie.groups.add(Group.objects.get(name="Developer"))
    quotas.set_quota(pool.alice, user=bob_only, maximum_cpus=11, borrow=True)
    mine = [pool.ask(cpus=11) for _ in range(3)]
    theirs = pool.ask(Actor(user=charlie), cpus=11)
    assert placement.place_pending() == 3
    assert states(*mine, theirs) == ["creating", "creating", "pending", "creating"]
    assert "borrow beyond its quota" in reread(mine[2]).reason
    standing = [vm for vm, _ in queue.state().standings]
    assert standing == [str(mine[2].pk)]


@pytest.mark.stores
def test_two_placers_at_once_do_not_go_over_a_quota(pool: Pool, bob_only: User) -> None:
    quotas.set_quota(pool.alice, user=bob_only, maximum_vms=1)
    vms = [pool.ask() for _ in range(2)]
    # Both have looked before either places: their books show room.
    passes = [placer.Pass(vm.pk) for vm in vms]
    for one in passes:
        one.now = timezone.now()
        one.schedule = placer.Schedule(placer.host_views(), dict, one.now)
        one.book = quotas.Book.opened()
    barrier = threading.Barrier(2)

    def serve(one: placer.Pass, vm: VirtualMachine) -> None:
        try:
            barrier.wait()
            one._serve(reread(vm))
        finally:
            connections.close_all()

    threads = [threading.Thread(target=serve, args=pair) for pair in zip(passes, vms, strict=True)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(states(*vms)) == ["creating", "pending"]
    assert Placement.objects.open().count() == 1


def test_a_vm_does_not_grow_over_a_quota(pool: Pool, worker: Worker, bob_only: User) -> None:
    vm = pool.ask(start=False)
    worker.finish(vm.create_job)
    quotas.set_quota(pool.alice, user=bob_only, maximum_cpus=3)
    with pytest.raises(Forbidden, match="2 of 3 CPUs") as refusal:
        verbs.resize(pool.bob, reread(vm), cpus=4)
    assert refusal.value.code == "limit_reached"
    worker.finish(verbs.resize(pool.bob, reread(vm), cpus=3))
    assert reread(vm).cpus == 3


def test_a_quota_is_for_one_and_has_a_limit(pool: Pool, bob_only: User) -> None:
    with pytest.raises(Invalid):
        quotas.set_quota(pool.alice, maximum_vms=1)
    with pytest.raises(Invalid, match="limits nothing"):
        quotas.set_quota(pool.alice, user=bob_only)
    with pytest.raises(Forbidden):
        quotas.set_quota(pool.bob, user=bob_only, maximum_vms=100)
    made = quotas.set_quota(pool.alice, user=bob_only, maximum_vms=1)
    with pytest.raises(Conflict, match="a quota already"):
        quotas.set_quota(pool.alice, user=bob_only, maximum_vms=2)
    quotas.change_quota(pool.alice, made, maximum_vms=None, maximum_cpus=4)
    quotas.remove_quota(pool.alice, made)
    assert not Quota.objects.exists()
    actions = AuditEvent.objects.filter(action__startswith="quota.").values_list(
        "action", flat=True
    )
    assert list(actions.order_by("pk")) == ["quota.set", "quota.changed", "quota.removed"]


def test_roles_take_turns_by_weight(pool: Pool, charlie: User) -> None:
    group = Group.objects.create(name="Release")
    heavy = Role.objects.create(group=group, permissions=["vms.use"])
    charlie.groups.add(group)
    users.set_weight(pool.alice, heavy, 3)
    grants.grant_template(pool.alice, template=pool.template, user=charlie)  # type: ignore[arg-type]
    mine = [pool.ask(cpus=8) for _ in range(3)]
    theirs = [pool.ask(Actor(user=charlie), cpus=8) for _ in range(3)]
    for host in pool.hosts[:2]:
        HostHold.objects.create(host=host, kind="cordon", reason="test")
    placement.place_pending()
    assert states(*mine, *theirs).count("creating") == 1
    order = [vm for vm, _ in queue.state().standings]
    expected = [theirs[0], theirs[1], theirs[2], mine[1], mine[2]]
    assert order == [str(vm.pk) for vm in expected]
    assert reread(theirs[0]).share == heavy


@pytest.mark.stores
def test_a_short_one_goes_ahead_and_its_lease_then_ends_in_time(
    pool: Pool, worker: Worker, settings: Any
) -> None:
    settings.QUEUE_MARGIN_SECONDS = 1
    for host in pool.hosts[1:]:
        HostHold.objects.create(host=host, kind="cordon", reason="test")
    filler = pool.ask(cpus=8, lease_seconds=3600)
    worker.finish(filler.create_job)
    large = pool.ask(cpus=10)
    long = pool.ask(cpus=2, lease_seconds=7200)
    placement.place_pending()
    assert "earlier requests" in reread(long).reason
    short = pool.ask(cpus=2, lease_seconds=600)
    worker.finish(short.create_job)
    assert states(large, long, short) == ["pending", "pending", "running"]
    room_at = queue.places()[large.pk].room_at
    assert room_at
    assert abs(room_at - reread(filler).lease.ends_at) < timedelta(seconds=90)
    # It was let in because it would be gone: it does not stay.
    with pytest.raises(Conflict, match="let in because") as refusal:
        leases.extend(pool.bob, reread(short), seconds=7200)
    assert refusal.value.code == "yields"
    with pytest.raises(Conflict, match="let in because"):
        leases.hold(pool.bob, reread(short), reason="a look", seconds=7200)
    leases.extend(pool.bob, reread(short), seconds=1200)
    # Once the other has its host, or does not wait any more, nothing holds it back.
    worker.finish(ending.request_delete(pool.bob, reread(large)))
    leases.extend(pool.bob, reread(short), seconds=7200)


def test_a_held_queue_places_nothing_and_says_why(pool: Pool, worker: Worker) -> None:
    queue.hold(pool.alice, note="A new image is being checked")
    vm = pool.ask()
    assert placement.place_pending() == 0
    assert reread(vm).reason == "The queue is held: A new image is being checked"
    with pytest.raises(Forbidden):
        queue.release(pool.bob)
    queue.release(pool.alice)
    with pytest.raises(Conflict):
        queue.release(pool.alice)
    worker.finish(vm.create_job)
    assert reread(vm).state == State.RUNNING


@pytest.mark.stores
def test_one_that_waited_as_long_as_it_was_to_is_given_up_with_the_reason(
    pool: Pool, worker: Worker
) -> None:
    with pytest.raises(Invalid):
        pool.ask(maximum_wait_seconds=10**9)
    for host in pool.hosts:
        HostHold.objects.create(host=host, kind="cordon", reason="broken")
    vm = pool.ask(maximum_wait_seconds=60)
    placement.place_pending()
    VirtualMachine.objects.filter(pk=vm.pk).update(waits_until=timezone.now())
    worker.finish(vm.create_job)
    ended = reread(vm)
    assert ended.state == State.FAILED
    assert ended.reason.startswith("No host took it within")
    assert "cordon: broken (3 hosts)" in ended.reason


def test_an_old_request_goes_before_a_fresh_one_of_higher_priority(
    pool: Pool, settings: Any
) -> None:
    for host in pool.hosts[1:]:
        HostHold.objects.create(host=host, kind="cordon", reason="test")
    settings.QUEUE_AGING_SECONDS = 600
    old, urgent = pool.ask(cpus=8, priority=4), pool.ask(cpus=8, priority=6)
    asked = timezone.now() - timedelta(seconds=1900)
    VirtualMachine.objects.filter(pk=old.pk).update(created_at=asked)
    placement.place_pending()
    assert states(old, urgent) == ["creating", "pending"]


def test_thousands_may_wait_and_the_first_thousand_are_looked_at(
    pool: Pool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(placer, "BATCH", 2)
    giants = [pool.ask(cpus=64, priority=5) for _ in range(2)]
    small = pool.ask(priority=9)
    assert placement.place_pending() == 1
    assert states(*giants, small) == ["pending", "pending", "creating"]


def test_a_pass_over_a_full_pool_asks_the_store_only_so_often(
    pool: Pool, django_assert_max_num_queries: Callable[..., Any]
) -> None:
    for _ in range(20):
        pool.ask(cpus=11)
    placement.place_pending()
    with django_assert_max_num_queries(22):
        placement.place_pending()


def test_the_api_tells_where_a_vm_stands_and_why(pool: Pool, bob: User, alice: User) -> None:
    admin, api = Api(make_token(alice, "admin")), Api(make_token(bob, "vms"))
    answer = admin.post("quotas/", {"user": "bob", "maximum_vms": 1})
    assert answer.status_code == 201, answer.json()
    quota = answer.json()
    assert quota["used"] == {"vms": 0, "cpus": 0, "memory_mib": 0}
    body = {"template": "ubuntu-ci", "maximum_wait_seconds": 600}
    first, second = (api.post("vms/", body).json() for _ in range(2))
    placement.place_pending()
    waiting = api.get(f"vms/{second['id']}/").json()
    assert (waiting["queue_position"], waiting["room_at"]) == (1, None)
    assert waiting["share"]["name"] == "Developer"
    assert waiting["waits_until"]
    assert "bob uses 1 of 1 VMs" in waiting["reason"]
    assert api.get(f"vms/{first['id']}/").json()["queue_position"] is None
    assert api.get("quotas/").json()["results"][0]["used"]["vms"] == 1
    assert api.post("queue/hold/", {"note": "x"}).status_code == 403
    assert admin.post("queue/hold/", {"note": "A break"}).status_code == 202
    shown = api.get("queue/").json()
    assert (shown["held"], shown["note"], shown["length"]) == (True, "A break", 1)
    assert admin.post("queue/release/").status_code == 202
    assert api.patch(f"quotas/{quota['id']}/", {"maximum_vms": 9}).status_code == 403
    assert admin.patch(f"quotas/{quota['id']}/", {"maximum_vms": 2}).json()["maximum_vms"] == 2
    assert placement.place_pending() == 1
    assert admin.delete(f"quotas/{quota['id']}/").status_code == 204
    role = admin.get("roles/").json()["results"][0]
    assert admin.patch(f"roles/{role['id']}/", {"weight": 7}).json()["weight"] == 7


def test_the_page_shows_the_queue_and_lets_it_be_held(
    pool: Pool, client: Client, alice: User, bob: User
) -> None:
    vm = pool.ask(cpus=64, name="too-large")
    placement.place_pending()
    client.force_login(bob)
    page = client.get(reverse("vms:queue")).content.decode()
    assert "too-large" in page
    assert "No host can ever take this VM" in page
    assert reverse("vms:hold-queue") not in page
    assert "Place 1 in the" in client.get(reverse("vms:detail", args=[vm.pk])).content.decode()
    client.force_login(alice)
    answer = client.post(reverse("vms:hold-queue"), {"note": "A break"})
    assert answer.status_code == 303
    assert "The queue is held: A break" in client.get(reverse("vms:queue")).content.decode()
    client.post(reverse("vms:release-queue"))
    made = client.post(reverse("vms:new-quota"), {"user": str(bob.pk), "maximum_vms": "3"})
    assert made.status_code == 303
    quota = Quota.objects.get()
    assert "0 of 3 VMs" in client.get(reverse("vms:queue")).content.decode()
    edited = client.post(
        reverse("vms:edit-quota", args=[quota.pk]), {"maximum_vms": "5", "borrow": "on"}
    )
    assert edited.status_code == 303
    quota.refresh_from_db()
    assert (quota.maximum_vms, quota.borrow) == (5, True)
    client.post(reverse("vms:remove-quota", args=[quota.pk]))
    assert not Quota.objects.exists()
    role = Role.objects.get(group__name="Developer")
    client.post(reverse("accounts:weigh-role", args=[role.pk]), {"weight": "4"})
    role.refresh_from_db()
    assert role.weight == 4


def test_many_who_wait_for_a_quota_keep_nobody_else_out(
    pool: Pool, charlie: User, bob_only: User, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(placer, "BATCH", 4)
    monkeypatch.setattr(views, "PER_ACCOUNT", 3)
    charlie.groups.add(Group.objects.get(name="Developer"))
    grants.grant_template(pool.alice, template=pool.template, user=charlie)  # type: ignore[arg-type]
    quotas.set_quota(pool.alice, user=bob_only, maximum_vms=0)
    mine = [pool.ask() for _ in range(6)]
    theirs = pool.ask(Actor(user=charlie))
    assert placement.place_pending() == 1
    assert states(theirs, *mine) == ["creating", *["pending"] * 6]


def test_a_placer_goes_on_while_it_places_and_others_wait(
    pool: Pool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(views, "PER_ACCOUNT", 2)
    vms = [pool.ask() for _ in range(5)]
    assert placement.place_pending() == 5
    assert states(*vms) == ["creating"] * 5


def test_a_pass_costs_the_same_for_many_quotas(
    pool: Pool, django_assert_max_num_queries: Callable[..., Any]
) -> None:
    for number in range(30):
        user = User.objects.create(username=f"user-{number}")
        quotas.set_quota(pool.alice, user=user, maximum_vms=1)
    pool.ask(cpus=64)
    placement.place_pending()
    with django_assert_max_num_queries(26):
        placement.place_pending()


def test_a_vm_without_a_share_is_bound_by_its_own_quota_alone(
    pool: Pool, charlie: User, worker: Worker
) -> None:
    quotas.set_quota(pool.alice, user=charlie, maximum_vms=0)
    quotas.set_quota(
        pool.alice, role=Role.objects.get(group__name="Auditor"), maximum_cpus=0, maximum_vms=0
    )
    vm = pool.ask(start=False)
    VirtualMachine.objects.filter(pk=vm.pk).update(share=None)
    worker.finish(vm.create_job)
    assert reread(vm).state == State.STOPPED
    worker.finish(verbs.resize(pool.bob, reread(vm), cpus=4))
    assert reread(vm).cpus == 4
