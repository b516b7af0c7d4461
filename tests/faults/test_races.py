"""Races between requests, placers and revocations. They fail on PostgreSQL or nowhere."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, Any

import pytest
from django.db import connection, transaction

from accounts import custom_roles, tokens, users
from accounts.actors import Actor
from accounts.models import User
from catalog import images
from hosts import inventory
from hosts.models import HostCapacity, HostVM
from jobs.models import Job
from orchestrator.db.locks import go_in
from orchestrator.refusals import Conflict, Forbidden, NotFound, Refusal
from tests.support.product import until
from tests.vms.conftest import Pool, Worker
from vms import adoption, grants, placement, requests
from vms.models import Grant, Placement, Template, VirtualMachine
from vms.own_templates import own_template

if TYPE_CHECKING:
    from collections.abc import Callable

pytestmark = [pytest.mark.faults]


def at_once(*functions: Callable[[], Any]) -> list[Any]:
    """Run the functions in threads that start together; return what each returned or raised."""
    barrier = threading.Barrier(len(functions))
    results: list[Any] = [None] * len(functions)

    def run(number: int, function: Callable[[], Any]) -> None:
        barrier.wait()
        try:
            results[number] = function()
        except Exception as error:  # handed to the test, which judges it
            results[number] = error
        finally:
            connection.close()

    threads = [
        threading.Thread(target=run, args=(number, function))
        for number, function in enumerate(functions)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(120)
    return results


def test_64_requests_for_20_slots_place_exactly_20_and_overcharge_no_host(pool: Pool) -> None:
    HostCapacity.objects.update(
        cpus_total=1000, memory_mib_total=10**6, disk_gib_total=10**5, cpus_reserved=0
    )
    slots = {host.pk: cpus for host, cpus in zip(pool.hosts, (14, 14, 12), strict=True)}
    for host_id, cpus in slots.items():
        HostCapacity.objects.filter(host_id=host_id).update(cpus_total=cpus)

    def ask() -> None:
        pool.ask(cpus=2, memory_mib=1024)
        placement.place_pending()

    for start in range(0, 64, 16):  # 16 threads at a time: the pool of connections has 18
        results = at_once(*[ask] * 16)
        assert [error for error in results if error] == [], start
    placement.place_pending()
    states = list(VirtualMachine.objects.values_list("state", flat=True))
    assert (states.count("creating"), states.count("pending")) == (20, 44)
    for row in HostCapacity.objects.all():
        assert row.cpus_charged <= row.cpus_total
        charged = sum(
            Placement.objects.open().filter(host_id=row.host_id).values_list("cpus", flat=True)
        )
        assert row.cpus_charged == charged == slots[row.host_id]


def test_two_placers_without_their_lease_still_never_overbook(
    pool: Pool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("orchestrator.db.models.RowLease.take", lambda *args: True)
    monkeypatch.setattr("orchestrator.db.models.RowLease.release", lambda *args: True)
    for _ in range(40):
        pool.ask(cpus=2, memory_mib=512)
    results = at_once(*[placement.place_pending] * 6)
    assert [error for error in results if isinstance(error, Exception)] == []
    for row in HostCapacity.objects.all():
        assert row.cpus_charged + row.cpus_reserved <= row.cpus_total
    assert VirtualMachine.objects.filter(state="creating").count() == 15
    assert Placement.objects.open().count() == 15


def test_8_creators_against_a_revocation_60_rounds_every_vm_is_refused_or_hit(pool: Pool) -> None:
    bob = User.objects.get(username="bob")
    for round_number in range(60):
        grant = Grant.objects.filter(user=bob).order_by("-id").first()
        assert grant
        limited = round_number % 2 == 1
        if grant.revoked_at or limited:
            Grant.objects.filter(user=bob, revoked_at=None).update(revoked_at=grant.created_at)
            grant = grants.grant_template(
                pool.alice,
                template=pool.template,  # type: ignore[arg-type]
                user=bob,
                maximum_vms=6 if limited else None,
            )

        def create() -> VirtualMachine:
            return requests.request_vm(Actor(user=bob), template=pool.template, cpus=64)  # type: ignore[arg-type]

        def revoke(grant: Grant = grant) -> list[str]:
            return grants.revoke_grant(pool.alice, grant, running_vms="delete").result["hit"]

        *created, hit = at_once(*[create] * 8, revoke)
        assert not isinstance(hit, Exception), hit
        for one in created:
            if isinstance(one, Exception):
                assert isinstance(one, Refusal), one
                assert one.code in {"grant_revoked", "limit_reached"}
            else:
                assert f"vm:{one.pk}" in hit
                assert VirtualMachine.objects.get(pk=one.pk).state == "cancelled"
        assert Grant.objects.get(pk=grant.pk).vms == 0


def test_8_creators_of_an_image_against_the_withdrawal_of_what_opens_it(pool: Pool) -> None:
    """By the owner's role or by the image's requirement: each VM is refused or hit."""
    assert pool.image
    assert pool.bob.user
    bob = User.objects.get(pk=pool.bob.user.pk)
    team = custom_roles.create_role(pool.alice, name="team", permissions=[])
    image = images.add_image(
        pool.alice,
        source=pool.image.source,
        catalog_id="debian",
        version="12",
        architecture="arm64",
        type="pvm",
    )
    for round_number in range(30):
        users.add_role(pool.alice, bob, team)
        images.change(pool.alice, image, required_roles=["team"])
        template = own_template(Actor(user=bob), image)

        def create(template: Template = template) -> VirtualMachine:
            return requests.request_vm(Actor(user=bob), template=template, cpus=64)

        def withdraw(by_role: bool = bool(round_number % 2)) -> None:
            if by_role:
                users.remove_role(pool.alice, bob, team)
            else:
                images.change(pool.alice, image, required_roles=["others"])

        *created, withdrawn = at_once(*[create] * 8, withdraw)
        assert withdrawn is None
        for one in created:
            if isinstance(one, Exception):
                assert isinstance(one, NotFound), one
            else:
                assert VirtualMachine.objects.get(pk=one.pk).state == "cancelled", round_number


def test_a_revocation_goes_before_requests_that_come_behind_it(pool: Pool) -> None:
    """PostgreSQL lets sharers of a row past who waits for it alone: without the gate, for ever.

    One request is in; a revocation waits for it; a second request comes and has to wait for both.
    """
    if connection.vendor != "postgresql":
        pytest.skip("SQLite has one writer at a time anyway")
    token, _ = tokens.create_token(pool.bob, name="busy", scopes=["vms"])
    is_in, may_go, order = threading.Event(), threading.Event(), []

    def first() -> None:
        with transaction.atomic():
            go_in()
            Actor(user=pool.bob.user, token=token).take()
            is_in.set()
            assert may_go.wait(20)
            order.append("first")

    def revoke() -> None:
        assert is_in.wait(20)
        tokens.revoke_token(pool.alice, token)
        order.append("revoked")

    def second() -> None:
        until(lambda: waiting() == 1, 20, "the revocation waits")
        try:
            pool.ask(Actor(user=pool.bob.user, token=token))
        except Forbidden as refusal:
            order.append(refusal.code)

    def let_go() -> None:
        until(lambda: waiting() == 2, 20, "the second request waits behind it")
        may_go.set()

    def waiting() -> int:
        with connection.cursor() as cursor:
            cursor.execute(
                "SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND NOT granted"
                " AND database = (SELECT oid FROM pg_database WHERE datname = current_database())"
            )
            return int(cursor.fetchone()[0])

    assert at_once(first, revoke, second, let_go) == [None] * 4
    assert (order[0], {*order[1:]}) == ("first", {"revoked", "token_revoked"})
    assert not VirtualMachine.objects.filter(token=token).exists()


def test_a_placement_closed_twice_at_once_releases_its_charge_once(
    pool: Pool, worker: Worker
) -> None:
    from vms import placements

    vm = pool.ask()
    placement.place_pending()
    open_one = vm.placements.get()
    results = at_once(*[lambda: placements.close(open_one, "raced")] * 8)
    assert sorted(results) == [False] * 7 + [True]
    assert sum(HostCapacity.objects.values_list("cpus_charged", flat=True)) == 0


def test_requests_deletes_and_inventories_at_once_end_without_a_deadlock(
    pool: Pool, worker: Worker
) -> None:
    from hosts import inventory
    from vms import ending

    vms = [pool.ask(name=f"vm-{number}") for number in range(6)]
    for vm in vms:
        worker.finish(vm.create_job)
    calls: list[Callable[[], Any]] = [
        *[
            lambda vm=vm: ending.request_delete(pool.bob, VirtualMachine.objects.get(pk=vm.pk))
            for vm in vms[:3]
        ],
        *[lambda host=host: inventory.refresh(host) for host in pool.hosts],
        *[lambda: worker.round()] * 3,
        lambda: grants.revoke_grant(pool.alice, pool.grant, running_vms="delete"),  # type: ignore[arg-type]
    ]
    for _ in range(3):
        results = at_once(*calls)
        assert [
            one for one in results if isinstance(one, Exception) and not isinstance(one, Refusal)
        ] == []
    worker.until(lambda: not VirtualMachine.objects.open().exists())
    assert sum(HostCapacity.objects.values_list("cpus_charged", flat=True)) == 0
    assert pool.simulation.all_vm_names() == []


def test_a_foreign_vm_is_adopted_once_and_counted_once_whatever_comes_at_the_same_time(
    pool: Pool, worker: Worker
) -> None:
    """Two who adopt, one who asks for the room, and lists of the host."""
    host = pool.hosts[0]
    golden = {"name": "golden", "state": "running", "cpus": 8, "memory": 1024, "disk": 10}
    pool.simulation.control(1, vms=[golden])
    inventory.refresh(host)
    vm_id = HostVM.objects.get(host=host).host_vm_id
    template = pool.template
    assert template

    def adopt() -> Any:
        return adoption.adopt(pool.alice, host, host_vm_id=vm_id, template=template)

    def ask() -> None:
        pool.ask(pool.alice, host=host, cpus=4, memory_mib=1024)
        placement.place_pending()

    def look() -> None:
        inventory.refresh(host)

    results = at_once(adopt, ask, look, adopt, look)
    assert [type(result) for result in (results[0], results[3])].count(Conflict) == 1
    assert [results[1], results[2], results[4]] == [None] * 3
    worker.until(lambda: not Job.objects.open().exclude(kind="vm.create").exists())
    inventory.refresh(host)
    has = HostCapacity.objects.get(pk=host.pk)
    # 11 of its 12 CPUs are for VMs: there was never room for both.
    assert (has.cpus_charged, has.cpus_foreign, has.overcommitted) == (8, 0, False)
    assert VirtualMachine.objects.filter(host=host).count() == 1
