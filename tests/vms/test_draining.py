"""Emptying hosts, windows of maintenance, and hosts that fail to make VMs."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING

import pytest

from accounts.models import AuditEvent
from events.models import Event
from hosts import holds
from hosts.models import Host, HostHold
from orchestrator.db.clock import database_now, from_now
from orchestrator.refusals import Conflict, Forbidden, Invalid
from tests.vms.conftest import reread
from vms import draining, ending, placement
from vms.models import Drain, Placement, Quarantine, VirtualMachine

if TYPE_CHECKING:
    from typing import Any

    from django.test import Client

    from tests.vms.conftest import Pool, Worker

pytestmark = pytest.mark.stores


def on(pool: Pool, worker: Worker, number: int, **options: Any) -> VirtualMachine:
    """Return a running VM of Alice's on a host."""
    vm = pool.ask(pool.alice, host=pool.hosts[number - 1], **options)
    worker.finish(vm.create_job)  # type: ignore[arg-type]
    return reread(vm)


def test_a_drained_host_takes_no_vms_and_tells_when_the_last_has_left(
    pool: Pool, worker: Worker
) -> None:
    vm = on(pool, worker, 1)
    host = pool.hosts[0]
    with pytest.raises(Forbidden):
        draining.drain(pool.bob, host, reason="disk")
    assert draining.drain(pool.alice, host, reason="disk").kind == "host.drain"
    draining.watch()
    assert reread(vm).state == "running", "it waits for the lease"
    assert not Host.objects.taking_vms().filter(pk=host.pk).exists()
    vm.lease.ends_at = database_now()
    vm.lease.save()
    from vms import leases

    leases.watch()
    worker.until(lambda: reread(vm).state == "deleted")
    draining.watch()
    draining.watch()
    assert Drain.objects.get().drained_at
    assert Event.objects.filter(kind="host.drained").count() == 1
    draining.undrain(pool.alice, host)
    assert Host.objects.taking_vms().filter(pk=host.pk).exists()


@pytest.mark.parametrize(("policy", "state"), [("stop", "stopped"), ("delete", "deleted")])
def test_vms_are_ended_at_the_deadline_and_not_before(
    pool: Pool, worker: Worker, policy: str, state: str
) -> None:
    vm, other = on(pool, worker, 1), on(pool, worker, 2)
    later = database_now() + timedelta(hours=1)
    draining.drain(pool.alice, pool.hosts[0], reason="disk", policy=policy, deadline=later)
    draining.watch()
    assert reread(vm).state == "running"
    Drain.objects.update(deadline=from_now(-1))
    draining.watch()
    draining.watch()
    worker.until(lambda: reread(vm).state == state)
    draining.watch()
    assert Drain.objects.get().drained_at
    assert reread(other).state == "running"


def test_a_vm_that_is_being_made_at_the_deadline_is_stopped_when_it_runs(
    pool: Pool, worker: Worker
) -> None:
    vm = pool.ask(pool.alice, host=pool.hosts[0])
    assert placement.place_pending() == 1
    draining.drain(pool.alice, pool.hosts[0], reason="disk", policy="stop")
    draining.watch()
    assert reread(vm).state == "creating"
    worker.finish(vm.create_job)  # type: ignore[arg-type]
    draining.watch()
    worker.until(lambda: reread(vm).state == "stopped")


def test_a_drain_that_was_undone_ends_nothing(pool: Pool, worker: Worker) -> None:
    vm = on(pool, worker, 1)
    later = database_now() + timedelta(hours=1)
    draining.drain(pool.alice, pool.hosts[0], reason="x", policy="delete", deadline=later)
    draining.undrain(pool.alice, pool.hosts[0])
    Drain.objects.update(deadline=from_now(-1))
    draining.watch()
    assert reread(vm).state == "running"
    with pytest.raises(Conflict):
        draining.undrain(pool.alice, pool.hosts[0])
    with pytest.raises(Invalid):
        draining.drain(pool.alice, pool.hosts[0], reason="x", deadline=database_now())


def test_a_window_begins_and_ends_by_itself_and_both_are_told_once(pool: Pool) -> None:
    host, now = pool.hosts[0], database_now()
    taking = Host.objects.taking_vms().filter(pk=host.pk)
    for day in (1, 2):
        begin = now + timedelta(days=day)
        holds.plan_maintenance(pool.alice, host, "update", begin + timedelta(hours=1), begin)
    assert HostHold.objects.planned().count() == 2
    assert taking.exists()
    first = HostHold.objects.order_by("starts_at")[0]
    HostHold.objects.filter(pk=first.pk).update(starts_at=from_now(-60))
    assert not taking.exists(), "it is in force without any tick"
    assert (holds.turn(), holds.turn()) == (1, 0)
    HostHold.objects.filter(pk=first.pk).update(until=from_now(-1))
    assert taking.exists()
    assert (holds.turn(), holds.turn()) == (1, 0)
    actions = AuditEvent.objects.filter(actor_id=None).order_by("id").values_list("action")
    assert [action for (action,) in actions] == ["host.maintain", "host.end_maintenance"]
    holds.end(pool.alice, HostHold.objects.planned().get())
    assert not HostHold.objects.planned().exists()
    with pytest.raises(Invalid, match="ends after its beginning"):
        holds.plan_maintenance(pool.alice, host, "x", now + timedelta(1), now + timedelta(2))


@pytest.fixture
def failing(pool: Pool, settings: Any) -> Host:
    """A host that fails every create; the only one that takes VMs."""
    settings.QUARANTINE_SAMPLE, settings.QUARANTINE_RATE = 3, 0.6
    settings.QUARANTINE_SECONDS = 60
    for host in pool.hosts[1:]:
        holds.hold(pool.alice, host, "cordon", "test")
    pool.simulation.control(1, faults={"failcreate": 1})
    return pool.hosts[0]


def test_a_host_that_fails_is_put_aside_tried_once_and_comes_back_when_it_is_well(
    pool: Pool, worker: Worker, failing: Host
) -> None:
    vms = [pool.ask(name=f"vm-{number}") for number in range(6)]
    worker.until(lambda: Quarantine.objects.exists())
    held = HostHold.objects.live().get(host=failing, kind="quarantine")
    assert held.reason.startswith("3 of the last 3 VMs could not be made:")
    assert held.by is None
    worker.until(lambda: not Placement.objects.open().exists())
    probe, next_one = (pool.ask(name=name, priority=9) for name in ("probe", "next"))
    assert placement.place_pending() == 0
    assert "quarantine" in reread(probe).reason

    # Its time comes: one VM tries it, fails, and the next may come twice as late.
    Quarantine.objects.update(probation_at=from_now(-1))
    assert placement.place_pending() == 1
    assert placement.place_pending() == 0
    assert (reread(probe).state, reread(next_one).state) == ("creating", "pending")
    worker.until(lambda: Quarantine.objects.filter(tries=1, probation=None).exists())
    left = Quarantine.objects.get().probation_at - database_now()
    assert timedelta(seconds=100) < left < timedelta(seconds=125)
    assert HostHold.objects.live().get(kind="quarantine").reason.startswith("It failed on")

    # It is well again: the one that tries it brings it back, and all others follow.
    pool.simulation.control(1, faults=None)
    more = [next_one, *(pool.ask(name=f"more-{number}") for number in range(2))]
    Quarantine.objects.update(probation_at=from_now(-1))
    worker.until(lambda: {reread(vm).state for vm in more} == {"running"})
    assert not HostHold.objects.live().filter(kind="quarantine").exists()
    tried = Placement.objects.filter(vm__in=vms).values_list("vm", flat=True)
    assert len(set(tried)) == len(tried), "never the same host again"


def test_a_probation_vm_that_was_cancelled_leaves_its_turn_to_the_next(
    pool: Pool, worker: Worker, failing: Host, client: Client
) -> None:
    for _ in range(3):
        pool.ask()
    worker.until(lambda: Quarantine.objects.exists())
    worker.until(lambda: not Placement.objects.open().exists())
    pool.simulation.control(1, faults=None)
    probe, next_one = (pool.ask(name=name, priority=9) for name in ("probe", "next"))
    Quarantine.objects.update(probation_at=from_now(-1))
    assert placement.place_pending() == 1
    client.force_login(pool.alice.user, "allauth.account.auth_backends.AuthenticationBackend")
    page = f"/hosts/{failing.pk}/"
    assert b"One VM is trying it now" in client.get(page).content
    assert reread(next_one).state == "pending"
    ending.request_delete(pool.bob, reread(probe))
    worker.until(lambda: reread(probe).is_final)
    assert reread(probe).state == "cancelled", "it said nothing about the host"
    worker.until(lambda: reread(next_one).state == "running")
    assert not HostHold.objects.live().filter(kind="quarantine").exists()


def test_too_few_failures_prove_nothing(pool: Pool, worker: Worker, failing: Host) -> None:
    vms = [pool.ask() for _ in range(2)]
    worker.until(lambda: Placement.objects.filter(failed=True).count() == len(vms))
    assert not Quarantine.objects.exists()
