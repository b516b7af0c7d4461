"""Following what hosts tell: who follows whom, what comes of it, and what a page says of it."""

from __future__ import annotations

import threading
import uuid
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import pytest
from django.db import connection

from hosts.drivers.base import News
from hosts.models import Host, HostVM, HostWatch
from hosts.polling.claims import UNREADABLE
from hosts.watching import Watcher, claims
from hosts.watching.watcher import Looks
from jobs.models import Job
from jobs.queueing import PARKED, hurry
from orchestrator.db.clock import from_now
from orchestrator.db.models import RowLease
from tests.support.product import until

if TYPE_CHECKING:
    from collections.abc import Iterator
    from uuid import UUID

    from tests.vms.conftest import Pool, Worker

pytestmark = pytest.mark.stores


@contextmanager
def watching(live: int) -> Iterator[Watcher]:
    """Run a watcher that follows `live` hosts already."""
    made = Watcher()

    def run() -> None:
        try:
            made.run()
        finally:
            connection.close()

    thread = threading.Thread(target=run)
    thread.start()
    try:
        until(
            lambda: HostWatch.objects.filter(live_since__isnull=False).count() == live, 20, "live"
        )
        yield made
    finally:
        made.stop()
        thread.join(20)
    assert not HostWatch.objects.exclude(holder=None).exists(), "it let go of everything"


@pytest.fixture
def watcher(pool: Pool) -> Iterator[Watcher]:
    """A watcher of the pool's three hosts, which follows them already."""
    with watching(3) as made:
        yield made


def test_what_changes_on_a_host_is_recorded_at_once(pool: Pool, watcher: Watcher) -> None:
    pool.simulation.control(2, vms=[{"name": "by hand", "state": "running"}])
    listed = HostVM.objects.filter(host=pool.hosts[1], name="by hand")
    until(lambda: listed.filter(state="running").exists(), 5, "the new VM is listed")
    pool.simulation.control(2, vms=[{"name": "by hand", "state": "stopped"}])
    until(lambda: listed.filter(state="stopped").exists(), 5, "its new state is listed")
    assert HostWatch.objects.get(host=pool.hosts[1]).is_live


def test_a_lost_connection_is_told_and_what_happened_meanwhile_is_found_afterwards(
    pool: Pool, watcher: Watcher
) -> None:
    watch = HostWatch.objects.filter(host=pool.hosts[0])
    pool.simulation.control(1, events=False)
    until(lambda: watch.filter(live_since=None).exclude(lost_at=None).exists(), 5, "it is told")
    pool.simulation.control(1, vms=[{"name": "meanwhile"}])
    pool.simulation.control(1, events=True)
    until(lambda: watch.filter(live_since__isnull=False).exists(), 30, "it is followed again")
    until(lambda: HostVM.objects.filter(name="meanwhile").exists(), 5, "the gap is closed")


def test_a_host_that_is_disabled_is_let_go(pool: Pool, watcher: Watcher) -> None:
    from hosts import holds

    holds.hold(pool.alice, pool.hosts[2], "disable", "repair")
    watch = HostWatch.objects.filter(host=pool.hosts[2])
    until(lambda: watch.filter(holder=None, live_since=None).exists(), 15, "it is let go")
    until(lambda: pool.simulation.control(3)["subscribers"] == 0, 5, "the connection is closed")


@pytest.mark.parametrize(("cipher", "problem"), [("no cipher", UNREADABLE), (None, "password")])
def test_a_host_with_bad_credentials_holds_up_no_other_and_is_followed_once_they_are_right(
    pool: Pool, cipher: str | None, problem: str
) -> None:
    good = Host.objects.get(pk=pool.hosts[1].pk)
    if cipher:
        with connection.cursor() as cursor:
            cursor.execute(
                "UPDATE hosts_host SET password = %s WHERE name = %s", [cipher, good.name]
            )
    else:
        Host.objects.filter(pk=good.pk).update(password="not this one")
    with watching(2):
        watch = HostWatch.objects.filter(host=good)
        until(lambda: watch.filter(problem__icontains=problem).exists(), 10, "it is told why")
        assert watch.filter(live_since=None).exists()
        Host.objects.filter(pk=good.pk).update(password=good.password)
        until(lambda: watch.filter(live_since__isnull=False, problem="").exists(), 30, "followed")


def test_a_host_that_is_followed_stays_live_since_the_same_moment(pool: Pool) -> None:
    holder, host = uuid.uuid4(), pool.hosts[0]
    claims.hold(holder)
    claims.live(host.pk, holder)
    since = HostWatch.objects.get(host=host).live_since
    claims.live(host.pk, holder)  # what it tells of its cache looks like "the connection stands"
    assert HostWatch.objects.get(host=host).live_since == since
    claims.lost(host.pk, holder, "gone")
    claims.live(host.pk, holder)
    again = HostWatch.objects.get(host=host)
    assert again.live_since and since and again.live_since > since
    assert again.problem == ""


def holders() -> dict[UUID | None, int]:
    counted: dict[Any, int] = {}
    for holder in HostWatch.objects.values_list("holder", flat=True):
        counted[holder] = counted.get(holder, 0) + 1
    return counted


def test_watchers_share_the_hosts_and_take_over_what_a_dead_one_held(pool: Pool) -> None:
    for number in range(5):
        Host.objects.create(name=f"more-{number}", url=f"http://127.0.0.1:9/{number}")
    first, second = uuid.uuid4(), uuid.uuid4()
    assert len(claims.hold(first)) == 8
    assert claims.hold(second) == set()  # nothing is free yet
    assert len(claims.hold(first)) == 4
    assert len(claims.hold(first)) == 4, "what it gave away it does not take again"
    assert len(claims.hold(second)) == 4
    assert holders() == {first: 4, second: 4}
    # The first one dies: its leases and its presence run out.
    HostWatch.objects.filter(holder=first).update(held_until=from_now(-1))
    RowLease.objects.filter(name=f"{claims.PRESENCE}{first}").update(until=from_now(-1))
    assert len(claims.hold(second)) == 8
    claims.leave(second)
    assert holders() == {None: 8}


def test_only_jobs_that_wait_for_their_next_look_are_hurried(pool: Pool, worker: Worker) -> None:
    vm = pool.ask()
    job = vm.create_job
    assert job
    assert hurry([vm.subject]) == 0, "it is parked: only a place wakes it"
    Job.objects.filter(pk=job.pk).update(run_after=from_now(60))
    assert hurry([vm.subject]) == 1
    assert Job.objects.claimable().filter(pk=job.pk).exists()
    Job.objects.filter(pk=job.pk).update(run_after=PARKED)


def test_a_burst_of_hints_is_one_look_and_one_more() -> None:
    looked: list[News] = []
    first, goes_on = threading.Event(), threading.Event()

    def look(host_id: UUID, news: News) -> None:
        looked.append(news)
        first.set()
        assert goes_on.wait(10)

    looks = Looks(look)
    host_id = uuid.uuid4()
    looks.ask(host_id, hint("a"))
    assert first.wait(10)
    for number in range(100):
        looks.ask(host_id, hint(str(number)))
    goes_on.set()
    until(lambda: len(looked) == 2, 10, "the second look")
    looks.stop()
    assert len(looked[1].vm_ids) == 100


def hint(vm_id: str) -> News:
    return News(True, vm_ids=frozenset({vm_id}))


def test_a_page_says_whether_changes_come_at_once(pool: Pool, client: Any) -> None:
    client.force_login(pool.alice.user, "allauth.account.auth_backends.AuthenticationBackend")
    host = pool.hosts[0]
    page = client.get(f"/hosts/{host.pk}/").content.decode()
    assert "polled every" in page
    HostWatch.objects.create(
        host=host, holder=uuid.uuid4(), held_until=from_now(10), live_since=from_now(-60)
    )
    assert "told at once" in client.get(f"/hosts/{host.pk}/").content.decode()
    HostWatch.objects.update(held_until=from_now(-60))
    assert "polled every" in client.get(f"/hosts/{host.pk}/").content.decode()
