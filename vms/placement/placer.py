"""The placer: works through the pending VMs in queue order, one placer at a time.

Order is the placer's job, correctness is not: the conditional UPDATE of `hosts.capacity.charge`
keeps two placers from over-booking a host.
"""

from __future__ import annotations

import uuid
from collections import Counter
from dataclasses import asdict
from typing import TYPE_CHECKING

import structlog
from django.conf import settings
from django.db import transaction

from hosts.capacity import Size, charge
from hosts.models import HostCapacity
from jobs.models import Job
from jobs.queueing import proceed, request_cancel
from orchestrator.db.models import RowLease
from vms import access
from vms.lifecycle import announce, move
from vms.models import Placement, VirtualMachine
from vms.placement.rules import HostView, Rejection, Score, Wish, could_ever, reject, score
from vms.placement.views import host_views, room, wish_of
from vms.placements import name_on_host
from vms.quarantine import take_probation
from vms.states import State

if TYPE_CHECKING:
    from collections.abc import Hashable
    from uuid import UUID

    from hosts.models import Host

log = structlog.get_logger(__name__)

LEASE = "placer"
LEASE_SECONDS = 30.0
BATCH = 1000
ON_PROBATION = "quarantine: one VM is trying it"
SHOWN = 50  # rejected hosts kept in an explanation


def place_pending() -> int:
    """Place what fits now; return how many VMs got a host. Only one placer works at a time."""
    holder = uuid.uuid4()
    if not RowLease.take(LEASE, holder, LEASE_SECONDS):
        return 0
    placed = 0
    while True:
        placed += _pass(holder)
        if RowLease.release(LEASE, holder):
            return placed


def _pass(holder: UUID) -> int:
    pending = list(
        VirtualMachine.objects.pending()
        .select_related("template", "requested_by", "grant", "create_job")
        .prefetch_related("template__images", "placements")[:BATCH]
    )
    if not pending:
        return 0
    hosts = host_views(vm.clone_of for vm in pending)
    # Hosts that an earlier VM is waiting for: a later one may not take their room away.
    awaited: set[UUID] = set()
    # Why a wish waits that is like an earlier one: all hosts that either could use are awaited.
    waiting: dict[Hashable, str | None] = {}
    placed = 0
    for number, vm in enumerate(pending):
        if number % 50 == 49 and not RowLease.take(LEASE, holder, LEASE_SECONDS):
            break
        wish = wish_of(vm)
        alike = (vm.template_id, wish.size, wish.host_id, wish.tried)
        if alike in waiting:
            _explain_waiting(vm, waiting[alike])
            continue
        if _place(vm, wish, [host for host in hosts if host.id not in awaited]):
            placed += 1
            continue
        if vm.state == State.PENDING:
            _explain_waiting(vm, _why_waiting(wish, hosts, awaited))
            awaited.update(host.id for host in hosts if could_ever(wish, host))
            waiting[alike] = _why_waiting(wish, hosts, awaited)
    return placed


def _place(vm: VirtualMachine, wish: Wish, hosts: list[HostView]) -> bool:
    """Put `vm` on the best of `hosts` that takes it; return whether one did."""
    passed: list[tuple[Score, HostView]] = []
    rejected: list[tuple[HostView, Rejection]] = []
    for host in hosts:
        if rejection := reject(wish, host):
            rejected.append((host, rejection))
        else:
            weights, strategy = settings.PLACEMENT_WEIGHTS, settings.PLACEMENT_STRATEGY
            passed.append((score(wish, host, weights, strategy), host))
    if not passed:
        return False
    if refusal := access.why_not_any_more(vm):
        _cancel(vm, refusal)
        return False
    for result, host in sorted(passed, key=lambda pair: (-pair[0].total, pair[1].name)):
        if _take(vm, wish, host, result, rejected):
            return True
        # The host was fuller than it looked: look again, and try the next best.
        host.__dict__.update(room(HostCapacity.objects.get(host_id=host.id)))
        if vm.state != State.PENDING:
            return False
        rejected.append((host, Rejection("capacity", "it filled up while this VM was placed")))
    return False


def _take(
    vm: VirtualMachine,
    wish: Wish,
    host: HostView,
    result: Score,
    rejected: list[tuple[HostView, Rejection]],
) -> bool:
    image, job = wish.image_on(host), vm.create_job  # which `move` would read again
    size = Size(wish.size.cpus, wish.size.memory_mib, wish.size.disk_gib, wish.macos_slots_on(host))
    with transaction.atomic():
        if not charge(host.id, size):
            return False
        placement = Placement(
            vm=vm,
            host_id=host.id,
            image_id=image.id if image else _image_of_source(vm, host),
            score=result.total,
            explanation=_explanation(result, rejected),
            **asdict(size),
        )
        placement.host_name = name_on_host(vm, placement.mark)
        moved = move(vm, State.CREATING, expect=[State.PENDING], reason="", host_id=host.id)
        if moved:
            placement.save(force_insert=True)
            moved = not host.on_probation or take_probation(host.id, placement)
        if moved:
            moved = job is not None and proceed(job, "create", lane=f"host:{host.id}")
        if not moved:  # cancelled meanwhile: give the charge back
            transaction.set_rollback(True)
    if not moved:
        vm.refresh_from_db()
        return False
    for resource, amount in asdict(size).items():
        host.free[resource] -= amount
    if host.on_probation:
        host.on_probation, host.holds = False, (ON_PROBATION,)
    log.info("vm.placed", vm=str(vm.pk), host=host.name, score=result.total)
    return True


def _image_of_source(vm: VirtualMachine, host: HostView) -> UUID | None:
    """Return the image that the source of a clone was made from, if that is a VM of ours."""
    sources = Placement.objects.filter(host_id=host.id, host_name=vm.clone_of)
    return sources.values_list("image_id", flat=True).first()


def _cancel(vm: VirtualMachine, refusal: str) -> None:
    with transaction.atomic():
        if move(vm, State.CANCELLED, expect=[State.PENDING], reason=refusal) and vm.create_job:
            request_cancel(vm.create_job, reason=refusal)


def _explanation(result: Score, rejected: list[tuple[HostView, Rejection]]) -> dict[str, object]:
    return {
        "score": result.parts,
        "rejected": [
            {"host": host.name, "host_id": str(host.id), **asdict(rejection)}
            for host, rejection in rejected[:SHOWN]
        ],
        "rejected_count": len(rejected),
    }


def _why_waiting(wish: Wish, hosts: list[HostView], awaited: set[UUID]) -> str | None:
    """Return why a VM waits; None when no host is left to try."""
    if wish.tried and not any(could_ever(wish, host) for host in hosts):
        return None
    return waiting_reason(wish, hosts, awaited)


def _explain_waiting(vm: VirtualMachine, reason: str | None) -> None:
    """Store why `vm` waits, if that changed; give it up without a reason to wait."""
    if reason is None:
        if vm.create_job:
            proceed(vm.create_job, "give_up")
        return
    if vm.reason == reason:
        return
    if VirtualMachine.objects.filter(pk=vm.pk, state=State.PENDING).update(reason=reason):
        vm.reason = reason
        if vm.create_job:
            Job.objects.filter(pk=vm.create_job.pk).update(message=reason[:300])
        announce(vm)


def waiting_reason(wish: Wish, hosts: list[HostView], awaited: set[UUID]) -> str:
    """Return the sentence that says why no host takes the VM now: the binding rule first."""
    if not hosts:
        return "Waiting: there is no host yet. Enrol one."
    possible = [host for host in hosts if could_ever(wish, host)]
    if not possible:
        return _sentence("No host can ever take this VM", wish, hosts)
    if all(host.id in awaited for host in possible):
        return "Waiting in the queue: earlier requests wait for the same hosts."
    return _sentence("Waiting", wish, possible)


def _sentence(start: str, wish: Wish, hosts: list[HostView]) -> str:
    details = Counter(
        rejection.detail for host in hosts if (rejection := reject(wish, host)) is not None
    )
    parts = [
        f"{detail} ({count} hosts)" if count > 1 else f"{detail} (1 host)"
        for detail, count in details.most_common(3)
    ]
    return f"{start}: {'; '.join(parts)}." if parts else f"{start}."


def why_not_host(vm: VirtualMachine, host: Host) -> Rejection | None:
    """Return the first rule by which `host` would not take `vm` now; None when it would."""
    view = host_views([vm.clone_of], host_id=host.pk)
    if not view:
        return Rejection("removed", "it was removed from the pool")
    return reject(wish_of(vm), view[0])
