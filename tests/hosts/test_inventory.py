"""Recording what hosts list: the sums, what an empty list means, and what is never touched."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING, Any

import pytest
from django.db.models import F

from events.models import Event
from hosts import inventory
from hosts.capacity import Size, charge, release
from hosts.drivers.base import ErrorKind, HostError
from hosts.health import Vitals
from hosts.lifecycle import Listing
from hosts.models import Health, Host, HostCapacity, HostStatus, HostVM
from jobs.handlers import handler_of
from jobs.models import Job
from jobs.outcomes import Again, Fail
from orchestrator.db.clock import database_now

if TYPE_CHECKING:
    from collections.abc import Callable

    from accounts.actors import Actor
    from hosts.drivers.base import Inventory
    from tests.hosts.conftest import Pool

pytestmark = [pytest.mark.django_db, pytest.mark.stores]


@pytest.fixture(autouse=True)
def _no_rooms_above(entries: Any) -> None:
    pass


@pytest.fixture
def host(make_host: Callable[..., Host]) -> Host:
    return make_host(health=Health.HEALTHY, successes=5)


def listing(found: Inventory, seconds: float = 0) -> Listing:
    return Listing(database_now() + timedelta(seconds=seconds), found)


def capacity(host: Host) -> HostCapacity:
    return HostCapacity.objects.get(host=host)


def status(host: Host) -> HostStatus:
    return HostStatus.objects.get(host=host)


def test_totals_and_foreign_vms(host: Host, inventory_of: Any, remote_vm: Any) -> None:
    vms = [
        remote_vm("on"),
        remote_vm("off", state="stopped"),
        remote_vm("asleep", state="suspended", type="macvm"),
        remote_vm("odd", state="no such state"),
        remote_vm("mac", type="macvm", cpus=2, memory_mib=4096, disk_gib=100),
    ]
    inventory.record(host, listing(inventory_of(*vms)))

    now = capacity(host)
    assert (now.cpus_total, now.cpus_reserved, now.cpus_foreign) == (12, 1, 4 + 4 + 2)
    assert (now.memory_mib_total, now.memory_mib_foreign) == (32768, 8192 * 2 + 4096)
    assert (now.disk_gib_total, now.disk_gib_foreign) == (1000, 64 * 4 + 100)
    assert (now.macos_slots_total, now.macos_slots_foreign) == (2, 1)
    assert now.disk_gib_free == 900
    assert not now.overcommitted


def test_claimed_vms_are_not_foreign(
    host: Host, inventory_of: Any, remote_vm: Any, entries: Any
) -> None:
    entries("on_inventory", lambda host, listing: {"a"})
    entries("on_inventory", lambda host, listing: {"b"})
    inventory.record(host, listing(inventory_of(*map(remote_vm, "abc"))))
    claims = HostVM.objects.filter(host=host).order_by("host_vm_id").values_list("claimed")
    assert [claimed for (claimed,) in claims] == [True, True, False]
    assert capacity(host).cpus_foreign == 4


def test_charged_is_never_written(host: Host, inventory_of: Any, remote_vm: Any) -> None:
    inventory.record(host, listing(inventory_of()))
    assert charge(host.pk, Size(4, 8192, 64))
    inventory.record(host, listing(inventory_of(remote_vm("a"))))
    assert capacity(host).cpus_charged == 4


def test_foreign_vms_beside_charges_make_it_overcommitted_until_they_go(
    host: Host, inventory_of: Any, remote_vm: Any, entries: Any
) -> None:
    told: list[Host] = []
    inventory.record(host, listing(inventory_of()))
    assert charge(host.pk, Size(8, 8192, 64))
    entries("on_available", told.append)

    inventory.record(host, listing(inventory_of(remote_vm("a"))))
    assert capacity(host).overcommitted
    assert not charge(host.pk, Size(0, 1, 0))
    assert not told

    inventory.record(host, listing(inventory_of(remote_vm("a", state="stopped"))))
    assert not capacity(host).overcommitted
    assert told == [host]
    release(host.pk, Size(8, 8192, 64))


def test_a_host_that_shrank_below_its_charges_is_recorded(host: Host, inventory_of: Any) -> None:
    inventory.record(host, listing(inventory_of()))
    assert charge(host.pk, Size(8, 16384, 64, macos_slots=1))
    inventory.record(host, listing(inventory_of(total_memory_mib=8192, macos_slots=0)))
    now = capacity(host)
    assert now.overcommitted
    assert (now.memory_mib_total, now.macos_slots_total) == (8192, 0)


def test_senseless_sizes_make_a_full_host_and_no_error(
    host: Host, inventory_of: Any, remote_vm: Any
) -> None:
    vms = [remote_vm(str(n), memory_mib=2**31 - 1, disk_gib=2**31 - 1) for n in range(3)]
    inventory.record(host, listing(inventory_of(*vms, total_memory_mib=2**31 - 1)))
    assert capacity(host).overcommitted


def test_rows_follow_the_list(host: Host, inventory_of: Any, remote_vm: Any) -> None:
    inventory.record(host, listing(inventory_of(remote_vm("a"), remote_vm("b"))))
    kept = HostVM.objects.get(host_vm_id="a").pk
    second = listing(
        inventory_of(remote_vm("a", ip_address="10.0.0.5"), remote_vm("c"), remote_vm("c"))
    )
    inventory.record(host, second)
    rows = {row.host_vm_id: row for row in HostVM.objects.filter(host=host)}
    assert set(rows) == {"a", "c"}
    assert rows["a"].pk == kept and rows["a"].ip_address == "10.0.0.5"
    assert all(row.seen_at == second.began_at for row in rows.values())


def test_a_list_that_began_earlier_is_ignored(
    host: Host, inventory_of: Any, remote_vm: Any
) -> None:
    early = listing(inventory_of(), seconds=-5)
    inventory.record(host, listing(inventory_of(remote_vm("a"))))
    assert not inventory.record(host, early).counts
    assert HostVM.objects.filter(host=host).count() == 1
    assert capacity(host).cpus_foreign == 4


def test_an_empty_list_counts_only_when_a_second_one_agrees(
    host: Host, inventory_of: Any, remote_vm: Any, entries: Any
) -> None:
    seen: list[bool] = []

    def look(host: Host, listing: Listing) -> set[str]:
        seen.append(listing.counts)
        return {vm.id for vm in listing.inventory.vms if vm.id == "ours"}

    entries("on_inventory", look)
    inventory.record(host, listing(inventory_of(remote_vm("ours"), remote_vm("theirs"))))
    HostStatus.objects.update(next_poll_at=database_now() + timedelta(hours=1))

    assert not inventory.record(host, listing(inventory_of())).counts
    assert HostVM.objects.filter(claimed=True).count() == 1
    assert capacity(host).cpus_foreign == 4
    waiting = status(host)
    assert waiting.empty_since and waiting.inventory_at < waiting.empty_since
    assert max(waiting.next_poll_at, waiting.inventory_due_at) <= database_now()

    assert inventory.record(host, listing(inventory_of())).counts
    assert not HostVM.objects.exists()
    assert capacity(host).cpus_foreign == 0
    assert status(host).empty_since is None
    assert seen == [True, False, True]


def test_vms_that_are_back_end_the_doubt(host: Host, inventory_of: Any, remote_vm: Any) -> None:
    for found in (inventory_of(remote_vm("a")), inventory_of(), inventory_of(remote_vm("a"))):
        inventory.record(host, listing(found))
    assert not inventory.record(host, listing(inventory_of())).counts


def test_a_host_that_never_had_vms_may_be_empty(host: Host, inventory_of: Any) -> None:
    assert inventory.record(host, listing(inventory_of())).counts


def test_a_change_is_told_and_the_same_again_is_not(
    host: Host, inventory_of: Any, remote_vm: Any
) -> None:
    def told() -> int:
        return Event.objects.filter(kind="host.changed").count()

    inventory.record(host, listing(inventory_of(remote_vm("a"))))
    assert told() == 1
    inventory.record(host, listing(inventory_of(remote_vm("a"), free_disk_gib=899)))
    assert told() == 1
    inventory.record(host, listing(inventory_of(remote_vm("a", state="stopped"))))
    assert told() == 2


def test_a_failing_check_is_shown_and_goes(host: Host, inventory_of: Any) -> None:
    inventory.record(host, listing(inventory_of(licensed=False)))
    assert status(host).health == Health.DEGRADED and "licence" in status(host).reason
    inventory.record(host, listing(inventory_of()))
    assert (status(host).health, status(host).reason) == (Health.HEALTHY, "")


def test_a_passing_trouble_is_a_problem_when_it_comes_back(host: Host, inventory_of: Any) -> None:
    trouble = HostError(ErrorKind.HOST_FAILED, "The host failed.")
    inventory.note_failure(host, trouble)
    assert status(host).health == Health.HEALTHY
    assert status(host).inventory_due_at <= database_now()
    inventory.note_failure(host, trouble)
    assert (status(host).health, status(host).reason) == (Health.DEGRADED, "The host failed.")
    assert status(host).inventory_due_at > database_now()
    inventory.record(host, listing(inventory_of()))
    assert (status(host).health, status(host).inventory_failures) == (Health.HEALTHY, 0)


def test_wrong_credentials_are_a_problem_at_once(pool: Pool, make_host: Any) -> None:
    host = make_host(url=pool.address(), health=Health.HEALTHY)
    host.api_key = "sim:wrong"
    with pytest.raises(HostError) as caught:
        inventory.refresh(host)
    assert caught.value.kind is ErrorKind.CREDENTIALS
    assert status(host).health == Health.DEGRADED
    assert "API key" in status(host).inventory_problem


def test_somebody_who_asked_meanwhile_gets_a_newer_list(host: Host, inventory_of: Any) -> None:
    running = listing(inventory_of(), seconds=-2)
    HostStatus.objects.update(inventory_due_at=database_now() - timedelta(seconds=1))
    inventory.record(host, running)
    assert status(host).inventory_due_at <= database_now()
    inventory.record(host, listing(inventory_of()))
    assert status(host).inventory_due_at > database_now() + timedelta(seconds=60)


def test_a_removed_host_records_nothing(host: Host, inventory_of: Any, remote_vm: Any) -> None:
    Host.objects.update(removed_at=database_now())
    assert not inventory.record(host, listing(inventory_of(remote_vm("a")))).counts
    inventory.note_failure(host, "It failed.")
    assert not HostVM.objects.exists() and not status(host).inventory_problem


def test_capacity_holds_its_last_line(host: Host, inventory_of: Any) -> None:
    from django.db import IntegrityError, transaction

    inventory.record(host, listing(inventory_of()))
    with pytest.raises(IntegrityError), transaction.atomic():
        HostCapacity.objects.update(cpus_foreign=F("cpus_total"))
    with pytest.raises(IntegrityError), transaction.atomic():
        HostCapacity.objects.update(cpus_charged=-1)


class TestJob:
    def test_it_lists_now(self, pool: Pool, make_host: Any, admin: Actor) -> None:
        from hosts.verbs import request_inventory
        from jobs.running import run_job

        pool.patch(vms=[{"name": "golden"}])
        host = make_host(url=pool.address())
        job = request_inventory(admin, host)
        assert request_inventory(admin, host) == job  # one is enough
        assert (job.lane, job.queue) == (host.lane, "calls")
        run_job(job.pk)
        job.refresh_from_db()
        assert (job.state, job.result) == ("done", {"vms": 1}), job.error
        assert HostVM.objects.get(host=host).name == "golden"

    def test_passing_trouble_is_tried_again_and_other_fails(
        self, make_host: Any, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        host, kinds = make_host(), [ErrorKind.TIMEOUT, ErrorKind.CREDENTIALS]

        def refresh(host: Host) -> None:
            raise HostError(kinds.pop(0), "It said no.")

        class Claim:
            job = Job(kind="host.inventory", subject=f"host:{host.pk}", step="list", failures=2)

            def note(self, *_: object) -> None: ...

            def sending(self) -> Any:
                import contextlib

                return contextlib.nullcontext()

        monkeypatch.setattr(inventory, "refresh", refresh)
        outcome = handler_of("host.inventory").run(Claim())  # type: ignore[arg-type]
        assert isinstance(outcome, Again) and outcome.failed and outcome.seconds == 4
        assert "It said no." in (outcome.message or "")
        assert handler_of("host.inventory").run(Claim()) == Fail("It said no.")  # type: ignore[arg-type]

    def test_a_removed_host_fails_it(self, make_host: Any, admin: Actor) -> None:
        from hosts.verbs import request_inventory
        from jobs.running import run_job

        host = make_host()
        job = request_inventory(admin, host)
        Host.objects.update(removed_at=database_now())
        run_job(job.pk)
        job.refresh_from_db()
        assert job.state == "failed" and "removed" in job.error


def test_vitals_are_read_from_the_status(host: Host) -> None:
    assert Vitals.of(status(host)) == Vitals("healthy", successes=5)
