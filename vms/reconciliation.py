"""What a host's complete list means for our VMs.

Level-triggered: it looks at what is, not at news.
"""

from __future__ import annotations

from collections import defaultdict
from typing import TYPE_CHECKING
from uuid import UUID

import structlog
from django.db.models import Prefetch, Q

from accounts.actors import SYSTEM
from accounts.audit import audit
from jobs import bell
from jobs.models import Job
from jobs.queueing import hurry, request_cancel
from orchestrator.refusals import Conflict
from vms import adoption, ending, observation, placements
from vms.lifecycle import PLACER, move
from vms.marks import mark_of
from vms.models import Placement, VirtualMachine
from vms.residue import recording as residue
from vms.states import AT_REST, MOVES, State

if TYPE_CHECKING:
    from accounts.actors import Actor
    from hosts.drivers.base import News, RemoteVM
    from hosts.lifecycle import Listing
    from hosts.models import Host

log = structlog.get_logger(__name__)


def on_inventory(host: Host, listing: Listing) -> set[str]:
    """Match the list with our placements; return the ids of the VMs on it that are ours.

    Runs in the transaction that records the list, after it locked the host's capacity.
    """
    by_id = {vm.id: vm for vm in listing.inventory.vms}
    listed: dict[str, list[RemoteVM]] = defaultdict(list)
    for vm in listing.inventory.vms:
        if mark := mark_of(vm.name):
            listed[mark].append(vm)
    ours = {
        placement.mark: placement
        for placement in Placement.objects.filter(host=host, mark__in=listed)
        .select_related("host")
        .prefetch_related(_VM)
    }
    claimed: set[str] = set()
    unchanged: list[UUID] = []
    for mark, placement in ours.items():
        followed = [vm for vm in listed[mark] if vm.id == placement.host_vm_id]
        if not followed and placement.plain_name and placement.host_vm_id in by_id:
            continue  # it is there, by its id: see below
        remote = (followed or listed[mark])[0]
        if _match(placement, remote, listing, unchanged):
            claimed.add(remote.id)
    # An adopted VM may not carry its mark yet: its id on the host says that it is ours.
    others = {pk: vm for pk, vm in by_id.items() if pk not in claimed}
    unmarked = list(
        Placement.objects.open()
        .filter(host=host, host_vm_id__in=others)
        .exclude(plain_name="")
        .select_related("host")
        .prefetch_related(_VM)
    )
    for placement in unmarked:
        remote = others[placement.host_vm_id]
        if _match(placement, remote, listing, unchanged):
            claimed.add(remote.id)
            adoption.rename_when_stopped(placement, remote.state)
    if unchanged:
        observation.still(unchanged, listing.began_at)
    lacking = (
        Placement.objects.open()
        .filter(host=host)
        .exclude(Q(mark__in=listed) | Q(pk__in=[one.pk for one in unmarked]))
        .select_related("host")
        .prefetch_related(_VM)
    )
    for placement in lacking:
        _lacks(placement, listing)
    residue.on_listing(host, listing)
    return claimed


_VM = Prefetch("vm", queryset=VirtualMachine.objects.select_related("template", "requested_by"))


def _match(placement: Placement, remote: RemoteVM, listing: Listing, unchanged: list[UUID]) -> bool:
    """Take in one listed VM that carries a mark of ours; return whether a charge covers it.

    Adds it to `unchanged` when all that is left to store is that it was seen.
    """
    if placement.let_go_at:
        return False  # foreign since then, whatever it is called
    if placement.closed_at and placement.closed_at > listing.began_at:
        return True  # the list is older than the end: it says nothing
    stray = placement.closed_at is not None or not placement.current
    if not placements.adopt(placement, remote.id):
        # Another VM with this mark is not the one that we follow, which the list lacks. It keeps no
        # end from being proven: it is told of as left over (`vms.residue`).
        if placement.closed_at is None:
            _lacks(placement, listing)
        return False
    if stray:
        log.warning("vm.stray", mark=placement.mark, host=placement.host.name)
        ending.remove_stray(placement)
        return placement.closed_at is None
    vm = placement.vm
    if observation.unchanged(vm, remote.state, remote.ip_address):
        unchanged.append(vm.pk)
    else:
        observation.seen(vm, remote.state, remote.ip_address, began_at=listing.began_at)
    _follow(vm, remote.state, listing)
    return True


def _follow(vm: VirtualMachine, observed: str, listing: Listing) -> None:
    """Move a VM that somebody changed on the host, unless we are changing it ourselves."""
    if vm.state not in AT_REST or observed not in AT_REST or observed == vm.state:
        return
    if vm.changed_at >= listing.began_at or Job.objects.open().about(vm.subject).exists():
        return
    to, was = State(observed), State(vm.state)
    if to in MOVES[was] and move(vm, to, expect=[was]):
        audit(
            SYSTEM,
            "vm.changed_outside",
            vm.subject,
            vm.name,
            data={"before": was, "after": to},
        )


def _lacks(placement: Placement, listing: Listing) -> None:
    """Draw what can be drawn from a list that does not have an open placement's VM."""
    if not listing.counts:
        return
    acknowledged = placement.delete_acknowledged_at
    if acknowledged and acknowledged < listing.began_at:
        placements.close(placement, "Deleted, and proven gone.", keep_current=placement.current)
    elif not placement.current:
        ending.remove_stray(placement)  # abandoned: its job finds out what became of it
    elif placement.host_vm_id and not acknowledged:
        # No single list fails a VM: it is shown as missing, and a person decides.
        VirtualMachine.objects.filter(
            pk=placement.vm_id, missing_since=None, changed_at__lt=listing.began_at
        ).update(missing_since=listing.began_at)


def on_news(host: Host, news: News) -> None:
    """Look sooner at the VMs that the host told of, where a job waits for them.

    A job of the host that makes a VM has the id of our placement.
    """
    placements = Placement.objects.open().filter(
        Q(host_vm_id__in=news.vm_ids) | Q(pk__in=filter(None, map(_as_uuid, news.job_ids))),
        host=host,
    )
    if subjects := [f"vm:{vm_id}" for vm_id in placements.values_list("vm_id", flat=True)]:
        hurry(subjects)


def _as_uuid(text: str) -> UUID | None:
    try:
        return UUID(text)
    except ValueError:
        return None


def before_removal(host: Host, forget_vms: bool, actor: Actor) -> None:
    """Let go of the VMs of a host that is being removed, or refuse."""
    vms = list(
        VirtualMachine.objects.open().filter(placements__host=host, placements__closed_at=None)
    )
    if vms and not forget_vms:
        names = ", ".join(vm.name for vm in vms[:5])
        raise Conflict(
            f"{len(vms)} VMs are on this host ({names}{', …' if len(vms) > 5 else ''}). "
            "Delete them first, or remove the host and forget them.",
            code="host_has_vms",
        )
    for placement in Placement.objects.open().filter(host=host):
        placements.close(placement, "The host was removed.")
    for vm in vms:
        if vm.state in State.queued():
            ending.end(vm, actor, reason=f"{host.name} was removed.")
        else:
            open_states = [
                State(state) for state, after in MOVES.items() if State.FORGOTTEN in after
            ]
            move(vm, State.FORGOTTEN, expect=open_states, reason=f"{host.name} was removed.")
        for job in Job.objects.open().about(vm.subject):
            request_cancel(job, reason=f"{host.name} was removed.")


def on_available(host: Host) -> None:
    """Ring the placer when a host may take VMs again."""
    bell.ring_tick(PLACER)
