"""Ticks against simulated hosts: health, inventories, and what a poll leaves alone."""

from __future__ import annotations

import threading
import uuid
from collections import Counter
from datetime import timedelta
from typing import TYPE_CHECKING, Any

import pytest
from django.db import connection

from events.models import Event
from hosts import holds, inventory
from hosts.drivers.base import ErrorKind, HostError
from hosts.health import Vitals
from hosts.models import Health, Host, HostCapacity, HostHealthChange, HostHold, HostStatus, HostVM
from hosts.polling import asking, claims, poll_host_now, poll_soon, tick, ticking, writing
from orchestrator.db.clock import database_now

if TYPE_CHECKING:
    from collections.abc import Callable

    from accounts.actors import Actor
    from tests.hosts.conftest import Pool

pytestmark = pytest.mark.django_db


@pytest.fixture(autouse=True)
def _short(settings: Any, entries: Any) -> None:
    settings.HOST_PROBE_SECONDS = 0.5
    settings.HOST_POLL_SECONDS = 600
    settings.HOST_INVENTORY_SECONDS = 3600


@pytest.fixture
def hosts(pool: Pool, make_host: Callable[..., Host]) -> list[Host]:
    """Three new hosts of the simulated pool."""
    return [make_host(f"mac{k}", pool.address(k)) for k in (1, 2, 3)]


def status(host: Host) -> HostStatus:
    return HostStatus.objects.get(host=host)


def health(host: Host) -> str:
    return status(host).health


def poll(*hosts: Host) -> None:
    """Make the hosts due, and do one tick."""
    for host in hosts:
        poll_soon(host)
    tick()


@pytest.mark.stores
def test_new_hosts_become_healthy_with_their_inventory(pool: Pool, hosts: list[Host]) -> None:
    pool.patch(2, vms=[{"name": "golden", "state": "running", "cpus": 3}])
    assert tick() == 3

    for host in hosts:
        now = status(host)
        assert (now.health, now.reason, now.successes) == (Health.HEALTHY, "", 1)
        assert now.latency_ms and now.last_seen_at and now.inventory_at and now.devops_version
        assert now.poll_claim is None and now.poll_until is None
        assert now.next_poll_at > database_now() + timedelta(seconds=500)
        assert now.inventory_due_at > database_now() + timedelta(seconds=3000)
    assert HostCapacity.objects.get(host=hosts[1]).cpus_foreign == 3
    assert HostVM.objects.get().host == hosts[1]
    assert Event.objects.filter(kind="host.health").count() == 3
    assert tick() == 0


@pytest.mark.stores
def test_a_light_probe_reads_no_inventory(pool: Pool, hosts: list[Host]) -> None:
    tick()
    before = status(hosts[0]).inventory_at
    poll(*hosts)
    assert status(hosts[0]).inventory_at == before
    assert status(hosts[0]).successes == 2
    poll_host_now(hosts[0])
    tick()
    assert status(hosts[0]).inventory_at > before


def test_a_refused_host_is_unreachable_after_one_tick(pool: Pool, hosts: list[Host]) -> None:
    tick()
    pool.patch(1, up=False)
    poll(*hosts)
    assert [health(host) for host in hosts] == ["unreachable", "healthy", "healthy"]
    assert status(hosts[0]).reason.endswith(".")
    assert status(hosts[0]).last_seen_at

    pool.patch(1, up=True)
    poll(hosts[0])  # the second good answer is fetched at once
    assert (health(hosts[0]), status(hosts[0]).reason) == ("healthy", "")
    changes = HostHealthChange.objects.filter(host=hosts[0]).order_by("id")
    assert [change.health for change in changes] == ["healthy", "unreachable", "healthy"]


def test_a_silent_host_is_unreachable_after_two_time_outs(pool: Pool, hosts: list[Host]) -> None:
    tick()
    pool.patch(1, hang=True)
    probes = Counter(pool.look(1)["requests"])["probe"]
    poll(*hosts)
    assert health(hosts[0]) == "unreachable"
    assert status(hosts[0]).failures == 2
    assert Counter(pool.look(1)["requests"])["probe"] in {probes, probes + 2}
    assert [health(host) for host in hosts[1:]] == ["healthy", "healthy"]


def test_a_host_that_answers_late_is_not_silent(pool: Pool, hosts: list[Host]) -> None:
    tick()
    pool.patch(1, latency_ms=700)
    poll(*hosts)
    now = status(hosts[0])
    assert (now.health, now.failing, now.failures) == ("healthy", "", 0)
    assert now.latency_ms and now.latency_ms >= 700, "the probe that confirms waits longer"


def test_one_time_out_changes_nothing(pool: Pool, hosts: list[Host]) -> None:
    tick()
    due = claims.Due(hosts[0], Vitals.of(status(hosts[0])), wants_inventory=False)
    poll_soon(hosts[0])
    shard = claims.claim_shard()
    assert shard
    writing.write(shard, [asking.Probed(due, error=HostError(ErrorKind.TIMEOUT, "Silent."))])
    assert (health(hosts[0]), status(hosts[0]).failures) == ("healthy", 1)
    assert status(hosts[0]).next_poll_at <= database_now()
    tick()
    assert (health(hosts[0]), status(hosts[0]).failures) == ("healthy", 0)


@pytest.mark.parametrize("fault", ["error500", "badjson", "wrongtype"])
def test_a_host_that_answers_errors_is_degraded(pool: Pool, hosts: list[Host], fault: str) -> None:
    tick()
    pool.patch(1, faults={fault: 1})
    poll(*hosts)
    assert [health(host) for host in hosts] == ["degraded", "healthy", "healthy"]
    assert status(hosts[0]).reason
    pool.patch(1, faults=None)
    poll(hosts[0])
    assert health(hosts[0]) == "healthy"


def test_a_clock_that_is_off_degrades(pool: Pool, hosts: list[Host]) -> None:
    tick()
    pool.patch(1, clock_offset_seconds=-600)
    poll_host_now(hosts[0])
    tick()
    assert health(hosts[0]) == "degraded" and "10 minutes behind" in status(hosts[0]).reason
    assert status(hosts[0]).clock_offset_seconds < -590


def test_rooms_above_hear_of_health(pool: Pool, hosts: list[Host], entries: Any) -> None:
    heard: list[tuple[str, str, str]] = []
    free: list[str] = []
    tick()
    entries("on_health_change", lambda host, a, b: heard.append((host.name, a, b)))
    entries("on_available", lambda host: free.append(host.name))
    pool.patch(1, up=False)
    poll(hosts[0])
    pool.patch(1, up=True)
    poll(hosts[0])
    assert heard == [("mac1", "healthy", "unreachable"), ("mac1", "unreachable", "healthy")]
    assert free == ["mac1"]


@pytest.mark.stores
def test_a_disabled_or_removed_host_is_left_alone(
    pool: Pool, hosts: list[Host], admin: Actor
) -> None:
    holds.hold(admin, hosts[0], "disable", "Moving house.")
    holds.hold(admin, hosts[1], "cordon", "No more VMs.")
    Host.objects.filter(pk=hosts[2].pk).update(removed_at=database_now())
    assert tick() == 1
    assert [health(host) for host in hosts] == ["new", "healthy", "new"]
    pool.patch(2, up=False)
    holds.hold(admin, hosts[1], "disable", "And stop looking.")
    poll(hosts[1])
    assert health(hosts[1]) == "healthy"

    holds.release(admin, hosts[0], "disable")
    assert tick() == 1
    assert health(hosts[0]) == "healthy"


@pytest.mark.stores
def test_a_poll_that_arrives_during_a_cordon_does_not_undo_it(
    pool: Pool, hosts: list[Host], admin: Actor, monkeypatch: pytest.MonkeyPatch
) -> None:
    ask = asking.ask

    def cordoned_meanwhile(*arguments: Any) -> Any:
        holds.hold(admin, hosts[0], "cordon", "Not now.")
        holds.hold(admin, hosts[1], "disable", "Not at all.")
        yield from ask(*arguments)

    monkeypatch.setattr(ticking, "ask", cordoned_meanwhile)
    assert tick() == 3
    assert health(hosts[0]) == "healthy"
    assert HostHold.objects.live().count() == 2
    assert set(Host.objects.taking_vms()) == {hosts[2]}


@pytest.mark.stores
def test_an_inventory_asked_for_during_a_poll_is_not_lost(
    pool: Pool, hosts: list[Host], monkeypatch: pytest.MonkeyPatch
) -> None:
    ask, asked = asking.ask, []

    def asked_meanwhile(*arguments: Any) -> Any:
        for wave in ask(*arguments):
            if not asked:
                asked.append(database_now())
                poll_host_now(hosts[0])
            yield wave

    monkeypatch.setattr(ticking, "ask", asked_meanwhile)
    tick()
    assert status(hosts[0]).inventory_at > asked[0]
    assert status(hosts[0]).inventory_due_at > database_now()


@pytest.mark.stores
def test_one_bad_host_never_loses_the_shard(
    pool: Pool, hosts: list[Host], monkeypatch: pytest.MonkeyPatch
) -> None:
    record = inventory.record

    def bad(host: Host, listing: Any) -> Any:
        if host == hosts[1]:
            raise ValueError("an answer that nobody thought of")
        return record(host, listing)

    monkeypatch.setattr(inventory, "record", bad)
    tick()
    assert [health(host) for host in hosts] == ["healthy", "degraded", "healthy"]
    assert status(hosts[1]).inventory_problem == inventory.NOT_STORED
    assert all(status(host).inventory_at for host in (hosts[0], hosts[2]))


@pytest.mark.stores
def test_one_value_that_cannot_be_stored_never_loses_the_wave(
    pool: Pool, hosts: list[Host], monkeypatch: pytest.MonkeyPatch
) -> None:
    answered = Vitals.answered

    def huge(vitals: Vitals) -> Vitals:
        seen = answered(vitals)
        if not numbers:
            return seen
        numbers.pop()
        return Vitals(seen.health, successes=-1)

    numbers = [1]
    monkeypatch.setattr(Vitals, "answered", huge)
    tick()
    assert sorted(health(host) for host in hosts) == ["healthy", "healthy", "new"]


def test_a_driver_that_fails_otherwise_never_loses_the_shard(
    pool: Pool, hosts: list[Host], monkeypatch: pytest.MonkeyPatch
) -> None:
    open_driver = asking.open_async_driver

    def broken(name: str, connection: Any, **rest: Any) -> Any:
        if connection.url == hosts[0].url:
            raise RuntimeError("a defect")
        return open_driver(name, connection, **rest)

    monkeypatch.setattr(asking, "open_async_driver", broken)
    tick()
    assert [health(host) for host in hosts] == ["degraded", "healthy", "healthy"]
    assert "RuntimeError" in status(hosts[0]).reason


def test_unreadable_credentials_never_lose_the_shard(pool: Pool, hosts: list[Host]) -> None:
    with connection.cursor() as cursor:
        cursor.execute("UPDATE hosts_host SET api_key = 'no cipher' WHERE name = 'mac2'")
    assert tick() == 2
    lost = HostStatus.objects.get(host__name="mac2")
    assert lost.inventory_problem == claims.UNREADABLE and lost.poll_claim is None
    assert tick() == 0


def test_a_slow_inventory_does_not_hold_the_health_of_others(
    pool: Pool, hosts: list[Host], monkeypatch: pytest.MonkeyPatch
) -> None:
    waves: list[list[str]] = []
    write = writing.write

    def note(shard: Any, answers: list[Any]) -> None:
        waves.append([type(answer).__name__ for answer in answers])
        write(shard, answers)

    monkeypatch.setattr(ticking, "write", note)
    monkeypatch.setattr(asking, "INVENTORY_SECONDS", 1.0)
    pool.patch(1, latency_ms=400)
    tick()
    assert waves[0].count("Probed") >= 2
    assert "Listed" in waves[-1]
    assert [health(host) for host in hosts[1:]] == ["healthy", "healthy"]
    assert health(hosts[0]) in {"healthy", "degraded"}


def test_results_of_a_tick_that_lost_its_claim_are_dropped(
    pool: Pool, hosts: list[Host], monkeypatch: pytest.MonkeyPatch
) -> None:
    ask = asking.ask

    def overtaken(*arguments: Any) -> Any:
        HostStatus.objects.filter(host=hosts[0]).update(poll_claim=hosts[0].pk)
        yield from ask(*arguments)

    monkeypatch.setattr(ticking, "ask", overtaken)
    tick()
    assert (health(hosts[0]), status(hosts[0]).successes) == ("new", 0)
    assert health(hosts[1]) == "healthy"


@pytest.mark.stores
def test_hosts_are_claimed_in_shards_and_once(hosts: list[Host], settings: Any) -> None:
    settings.HOST_POLL_SHARD = 2
    first, second = claims.claim_shard(), claims.claim_shard()
    assert first and second
    assert (len(first.due), len(second.due)) == (2, 1)
    assert claims.claim_shard() is None
    # A tick that died is replaced.
    HostStatus.objects.filter(poll_claim=first.claim).update(poll_until=database_now())
    third = claims.claim_shard()
    assert third and {due.host for due in third.due} == {due.host for due in first.due}


@pytest.mark.django_db(transaction=True)
@pytest.mark.skipif(connection.vendor != "postgresql", reason="SQLite has one writer at a time")
def test_ticks_at_once_never_claim_one_host_twice(make_host: Any, settings: Any) -> None:
    settings.HOST_POLL_SHARD = 7
    for number in range(60):
        make_host(f"mac{number}")
    claimed: list[Any] = []
    errors: list[BaseException] = []
    start = threading.Barrier(6)

    def work() -> None:
        try:
            start.wait()
            while shard := claims.claim_shard():
                claimed.extend(due.host.pk for due in shard.due)
        except BaseException as error:
            errors.append(error)
        finally:
            connection.close()

    threads = [threading.Thread(target=work) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert not errors
    assert Counter(claimed).most_common(1)[0][1] == 1
    # A tick whose whole shard was taken from under it stops; the next one finds the rest.
    while shard := claims.claim_shard():
        claimed.extend(due.host.pk for due in shard.due)
    assert len(claimed) == len(set(claimed)) == 60


def test_a_tick_ends_in_time_while_there_is_more_to_do(monkeypatch: pytest.MonkeyPatch) -> None:
    endless = claims.Shard(uuid.uuid4(), claims.Clock.look(), [], [])
    monkeypatch.setattr(ticking, "TICK_SECONDS", 0.05)
    monkeypatch.setattr(ticking, "claim_shard", lambda: endless)
    assert tick() == 0
