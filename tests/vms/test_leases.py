"""Heartbeats, warnings, and VMs that somebody keeps for debugging."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from accounts import tokens
from accounts.actors import Actor
from accounts.models import AuditEvent
from events.models import Event
from jobs.models import Job
from orchestrator.db.clock import database_now, from_now
from orchestrator.refusals import Conflict, Forbidden, Invalid
from tests.vms.conftest import reread
from vms import ending, grants, leases
from vms.models import Grant, Lease, VirtualMachine

if TYPE_CHECKING:
    from tests.vms.conftest import Pool, Worker

pytestmark = pytest.mark.stores


@pytest.fixture
def vm(pool: Pool, worker: Worker) -> VirtualMachine:
    made = pool.ask(name="build", lease_seconds=1000)
    worker.finish(made.create_job)  # type: ignore[arg-type]
    return reread(made)


def left(vm: VirtualMachine) -> float:
    return (reread(vm).lease.ends_at - database_now()).total_seconds()


def kinds(vm: VirtualMachine) -> list[str]:
    told = Event.objects.filter(subject=vm.subject, kind__startswith="lease.")
    return list(told.order_by("id").values_list("kind", flat=True))


def test_heartbeats_keep_a_lease_alive_as_one_job_and_one_line_of_audit(
    pool: Pool, vm: VirtualMachine
) -> None:
    Lease.objects.update(ends_at=from_now(5))
    first = leases.heartbeat(pool.bob, vm)
    assert 990 < left(vm) <= 1000
    Lease.objects.update(ends_at=from_now(5))
    second = leases.heartbeat(pool.bob, vm)
    assert first == second
    assert 990 < left(vm) <= 1000
    assert Job.objects.get(kind="vm.heartbeat").result == {"lease_seconds": 1000, "count": 2}
    assert AuditEvent.objects.filter(action="vm.heartbeat").count() == 1


def test_a_heartbeat_goes_no_further_than_the_grant_allows_by_then(
    pool: Pool, vm: VirtualMachine
) -> None:
    Grant.objects.update(maximum_lease_seconds=100)
    with pytest.raises(Invalid, match="1 to 100 seconds"):
        leases.heartbeat(pool.bob, reread(vm))
    grants.revoke_grant(pool.alice, pool.grant, running_vms="keep")  # type: ignore[arg-type]
    Grant.objects.update(maximum_lease_seconds=None)
    with pytest.raises(Forbidden):
        leases.heartbeat(pool.bob, reread(vm))


def test_the_end_of_a_lease_is_told_before_it_comes_once_and_again_after_an_extension(
    pool: Pool, vm: VirtualMachine
) -> None:
    assert kinds(vm) == ["lease.started"]
    # A fifth of 1,000 s is less than LEASE_WARNING_SECONDS.
    warn_at = reread(vm).lease.warn_at
    assert 195 < (reread(vm).lease.ends_at - warn_at).total_seconds() < 205
    assert leases.warn() == 0
    Lease.objects.update(warn_at=from_now(-1), ends_at=from_now(60))
    assert (leases.warn(), leases.warn()) == (1, 0)
    leases.extend(pool.bob, vm)
    assert leases.warn() == 0
    Lease.objects.update(warn_at=from_now(-1), ends_at=from_now(60))
    assert leases.warn() == 1
    assert kinds(vm) == ["lease.started", "lease.ending", "lease.ending"]
    told = Event.objects.filter(kind="lease.ending").order_by("id").last()
    assert told
    assert (told.owner_id, told.data["then"]) == (pool.bob.user_id, "delete")


def test_a_vm_that_is_kept_outlives_its_lease_and_pipelines_until_it_is_released(
    pool: Pool, worker: Worker, vm: VirtualMachine
) -> None:
    token, _ = tokens.create_token(pool.bob, name="ci", scopes=["vms"])
    pipeline = Actor(user=pool.bob.user, token=token)
    leases.hold(pool.bob, vm, reason="flaky test")
    Lease.objects.update(ends_at=from_now(-1))
    assert leases.watch() == 0
    with pytest.raises(Conflict, match=r"kept for debugging .*flaky test"):
        ending.request_delete(pipeline, reread(vm))
    assert reread(vm).state == "running"
    leases.release(pool.bob, reread(vm))
    with pytest.raises(Conflict):
        leases.release(pool.bob, reread(vm))
    assert leases.watch() == 1
    worker.until(lambda: reread(vm).state == "deleted")
    assert kinds(vm)[-1] == "lease.ended"
    with pytest.raises(Conflict, match="cannot be held"):
        leases.hold(pool.bob, reread(vm), reason="too late")


def test_a_person_and_a_revocation_take_a_kept_vm_and_a_hold_ends_by_itself(
    pool: Pool, worker: Worker, vm: VirtualMachine
) -> None:
    other = pool.ask(name="other")
    worker.finish(other.create_job)  # type: ignore[arg-type]
    for one in (vm, other):
        leases.hold(pool.bob, reread(one), reason="look")
    worker.finish(ending.request_delete(pool.bob, reread(vm)))
    assert reread(vm).state == "deleted"
    Lease.objects.update(ends_at=from_now(-1), held_until=from_now(-1))
    assert leases.watch() == 1
    grants.revoke_grant(pool.alice, pool.grant, running_vms="delete")  # type: ignore[arg-type]
    worker.until(lambda: reread(other).state == "deleted")


def test_an_account_keeps_only_so_many_vms(
    pool: Pool, worker: Worker, vm: VirtualMachine, settings: Any
) -> None:
    settings.LEASE_HOLD_MAXIMUM, settings.LEASE_HOLD_SECONDS = 1, 3600
    other = pool.ask(name="other")
    worker.finish(other.create_job)  # type: ignore[arg-type]
    leases.hold(pool.bob, vm, reason="first", seconds=60)
    leases.hold(pool.bob, vm, reason="again")  # replaces
    with pytest.raises(Forbidden) as refused:
        leases.hold(pool.bob, reread(other), reason="second")
    assert refused.value.code == "limit_reached"
    with pytest.raises(Invalid):
        leases.hold(pool.bob, vm, reason="long", seconds=3601)
    with pytest.raises(Invalid):
        leases.hold(pool.bob, vm, reason=" ")
    assert reread(vm).lease.held_reason == "again"


def test_a_page_keeps_and_releases(pool: Pool, vm: VirtualMachine, client: Any) -> None:
    client.force_login(pool.bob.user, "allauth.account.auth_backends.AuthenticationBackend")
    assert client.post(f"/vms/{vm.pk}/hold/", {"reason": "why", "seconds": "2h"}).status_code == 303
    page = client.get(f"/vms/{vm.pk}/").content.decode()
    assert "why" in page and "Release" in page
    assert client.post(f"/vms/{vm.pk}/release/").status_code == 303
    assert "Keep" in client.get(f"/vms/{vm.pk}/").content.decode()
