"""The placer: works through the pending VMs in queue order, one placer at a time.

Order is the placer's job, correctness is not: the conditional UPDATE of `hosts.capacity.charge`
keeps two placers from over-booking a host, and `quotas.take` from going over a quota.
"""

from __future__ import annotations

import uuid
from collections import Counter
from dataclasses import asdict
from datetime import timedelta
from typing import TYPE_CHECKING

import structlog
from django.conf import settings
from django.db import transaction

from hosts.capacity import Size, charge
from hosts.models import HostCapacity
from jobs.models import Job
from jobs.queueing import proceed, request_cancel
from orchestrator.db.clock import database_now
from orchestrator.db.models import RowLease
from vms import access, pools, queue, quotas
from vms.lifecycle import announce, move
from vms.models import LeaseEnd, Placement, VirtualMachine
from vms.placement.rules import (
    HostView,
    ImageView,
    Rejection,
    Score,
    Wish,
    could_ever,
    needs,
    reject,
    score,
)
from vms.placement.scheduling import Opening, Reservation, Schedule
from vms.placement.views import host_views, line_up, releases, room, wish_of
from vms.placements import name_on_host
from vms.quarantine import take_probation
from vms.quotas import Standing
from vms.states import State

if TYPE_CHECKING:
    from collections.abc import Hashable, Sequence
    from datetime import datetime
    from uuid import UUID

    from hosts.models import Host

log = structlog.get_logger(__name__)

LEASE = "placer"
LEASE_SECONDS = 30.0
BATCH = 1000
ON_PROBATION = "quarantine: one VM is trying it"
SHOWN = 50  # rejected hosts kept in an explanation
IN_QUEUE = "Waiting in the queue: earlier requests wait for the same hosts."


def place_pending() -> int:
    """Place what fits now; return how many VMs got a host. Only one placer works at a time."""
    holder = uuid.uuid4()
    if not RowLease.take(LEASE, holder, LEASE_SECONDS):
        return 0
    placed = 0
    while True:
        one = Pass(holder)
        placed += one.work()
        if one.placed and one.others_wait:
            continue
        if RowLease.release(LEASE, holder):
            return placed


class Pass:
    """One way through the queue."""

    def __init__(self, holder: UUID) -> None:
        self.holder = holder
        self.placed = 0
        self.others_wait = False  # behind those that this pass looks at
        self.standings: list[tuple[UUID, datetime | None]] = []
        # Those behind what waits, and like it, need no look of their own.
        self.waiting: dict[Hashable, str | None] = {}

    def work(self) -> int:
        """Place what fits; return how many VMs got a host."""
        for vm in queue.overdue():
            _give_up(vm, "expire")
        pending, self.others_wait = line_up(BATCH)
        if not pending:
            queue.note_standings([])
            return 0
        state = queue.state()
        if state.held_at:
            for vm in pending:
                _explain_waiting(vm, f"The queue is held: {state.note}")
            queue.note_standings([(vm.pk, None) for vm in pending])
            return 0
        self.now = database_now()
        self.schedule = Schedule(
            host_views(vm.clone_of for vm in pending), lambda: releases(self.now), self.now
        )
        self.book = quotas.Book.opened()
        borrowing: list[VirtualMachine] = []
        warm: list[VirtualMachine] = []
        for number, vm in enumerate(pending):
            if number % 50 == 49 and not RowLease.take(LEASE, self.holder, LEASE_SECONDS):
                self.others_wait = False  # they are another placer's now
                return self.placed
            if vm.pool_id:
                warm.append(vm)
            elif self.book.standing(vm)[0] is Standing.BORROWS:
                borrowing.append(vm)  # after all who are within their quotas
            else:
                self._serve(vm)
        for vm in (*borrowing, *warm):  # what is to be kept ready takes what nobody wants
            self._serve(vm)
        queue.note_standings(self.standings)
        return self.placed

    def _serve(self, vm: VirtualMachine) -> None:
        """Give `vm` a host, or say why not and keep one for it."""
        standing, limit = self.book.standing(vm)
        if standing is Standing.OVER:
            _explain_waiting(vm, f"Waiting for its quota: {limit}.")
            self.standings.append((vm.pk, None))
            return
        wish = wish_of(vm)
        until = self._gone_by(vm)
        where = (wish.host_id, wish.architecture, wish.any_tags)
        alike = (vm.template_id, wish.size, where, wish.tried, until)
        if alike not in self.waiting:
            if self._place(vm, wish, until):
                self.placed += 1
                self.book.count(vm)
                return
            if vm.state != State.PENDING:
                return
            if standing is Standing.WITHIN and not vm.pool_id:
                self._make_way(wish)
            if standing is Standing.BORROWS:
                self.waiting[alike] = f"Waiting to borrow beyond its quota: {limit}."
            else:
                self.waiting[alike] = self._why_waiting(wish)
        # Only those within their quotas are kept a host for.
        within = standing is Standing.WITHIN and not vm.pool_id
        kept = self.schedule.reserve(vm.pk, wish) if within else None
        self.standings.append((vm.pk, kept.at if kept else None))
        _explain_waiting(vm, self.waiting[alike])

    def _make_way(self, wish: Wish) -> None:
        """Let VMs that are only kept ready go where that makes room for somebody who waits."""
        full = {
            host.id: host
            for host in self.schedule.hosts
            if (rejection := reject(wish, host)) and rejection.rule == "capacity"
        }
        pools.make_way(full, {key: needs(wish, host) for key, host in full.items()})

    def _gone_by(self, vm: VirtualMachine) -> datetime | None:
        """Return when `vm` would be gone for certain if it were placed now; None: nobody knows."""
        if vm.pool_id or vm.template.lease_end != LeaseEnd.DELETE:
            return None
        return self.now + timedelta(seconds=vm.lease_seconds + settings.QUEUE_MARGIN_SECONDS)

    def _place(self, vm: VirtualMachine, wish: Wish, until: datetime | None) -> bool:
        """Put `vm` on the best host that takes it; return whether one did."""
        openings, rejected = self.schedule.openings(wish, until)
        if not openings:
            return False
        if refusal := access.why_not_any_more(vm):
            _cancel(vm, refusal)
            return False
        weights, strategy = settings.PLACEMENT_WEIGHTS, settings.PLACEMENT_STRATEGY
        scored = [(score(wish, one.host, weights, strategy), one) for one in openings]
        for result, opening in sorted(
            # Where nobody waits comes first, whatever the score.
            scored,
            key=lambda pair: (pair[1].yields is not None, -pair[0].total, pair[1].host.name),
        ):
            host = opening.host
            if _take(vm, wish, opening, result, rejected):
                self.schedule.take(host, needs(wish, host), until)
                if host.on_probation:
                    host.on_probation, host.holds = False, (ON_PROBATION,)
                return True
            # The host was fuller than it looked: look again, and try the next best.
            host.__dict__.update(room(HostCapacity.objects.get(host_id=host.id)))
            if vm.state != State.PENDING:
                return False
            rejected.append((host, Rejection("capacity", "it filled up while this VM was placed")))
        return False

    def _why_waiting(self, wish: Wish) -> str | None:
        """Return why a VM waits; None when no host is left to try."""
        if wish.tried and not self.schedule.is_possible(wish):
            return None
        return waiting_reason(wish, self.schedule.hosts)


def _take(
    vm: VirtualMachine,
    wish: Wish,
    opening: Opening,
    result: Score,
    rejected: list[tuple[HostView, Rejection]],
) -> bool:
    host = opening.host
    image, job = wish.image_on(host), vm.create_job  # which `move` would read again
    size = Size(wish.size.cpus, wish.size.memory_mib, wish.size.disk_gib, wish.macos_slots_on(host))
    with transaction.atomic():
        if not quotas.take(vm) or not charge(host.id, size):
            return False
        placement = Placement(
            vm=vm,
            host_id=host.id,
            image_id=image.id if image else _image_of_source(vm, host),
            score=result.total,
            explanation={**_explanation(result, rejected), "image": _said_of(image, host)},
            **_yielding(opening.yields),
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
    log.info("vm.placed", vm=str(vm.pk), host=host.name, score=result.total)
    return True


def _yielding(reservation: Reservation | None) -> dict[str, object]:
    if reservation is None:
        return {}
    return {"yields_to_id": reservation.owner, "yields_at": reservation.at}


def _give_up(vm: VirtualMachine, step: str) -> None:
    if vm.create_job:
        proceed(vm.create_job, step)


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


def _said_of(image: ImageView | None, host: HostView) -> str:
    """Return how the image came into the choice of the host; nothing for a clone."""
    if image is None:
        return ""
    if host.has(image):
        return "It is cached on the host, which counts for it."
    size = f" {-(-image.pack_size_mib // 1024)} GiB" if image.pack_size_mib else ""
    return f"It is not cached on the host, which downloads{size} first."


def _explain_waiting(vm: VirtualMachine, reason: str | None) -> None:
    """Store why `vm` waits, if that changed; give it up without a reason to wait."""
    if reason is None:
        _give_up(vm, "give_up")
        return
    if vm.reason == reason:
        return
    if VirtualMachine.objects.filter(pk=vm.pk, state=State.PENDING).update(reason=reason):
        vm.reason = reason
        if vm.create_job:
            Job.objects.filter(pk=vm.create_job.pk).update(message=reason[:300])
        announce(vm)


def waiting_reason(wish: Wish, hosts: Sequence[HostView]) -> str:
    """Return the sentence that says why no host takes the VM now: the binding rule first."""
    if not hosts:
        return "Waiting: there is no host yet. Enrol one."
    possible = [host for host in hosts if could_ever(wish, host)]
    if not possible:
        return _sentence("No host can ever take this VM", wish, hosts)
    if any(reject(wish, host) is None for host in possible):
        return IN_QUEUE
    return _sentence("Waiting", wish, possible)


def _sentence(start: str, wish: Wish, hosts: Sequence[HostView]) -> str:
    details = Counter(
        rejection.detail.rstrip(".")  # what a person wrote may be a sentence; this is inside of one
        for host in hosts
        if (rejection := reject(wish, host)) is not None
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
