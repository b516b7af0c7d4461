"""Closing a Placement: the one place that gives a charge back."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING

from django.db import transaction
from django.db.models import F, Q
from django.db.models.functions import Now

from hosts import capacity, ownership
from hosts.capacity import Size
from hosts.models import RESOURCES, Host, HostCapacity
from jobs import bell
from vms import quarantine
from vms.lifecycle import PLACER
from vms.models import Placement
from vms.residue import noting, recording
from vms.terms import slug

if TYPE_CHECKING:
    from datetime import datetime

    from hosts.drivers.base import RemoteVM
    from vms.models import VirtualMachine


def close(
    placement: Placement,
    outcome: str,
    *,
    failed: bool = False,
    keep_current: bool = False,
    let_go: bool = False,
) -> bool:
    """Close `placement` and release its charge; return whether this call did it.

    What its VM left on the host is looked for afterwards, unless it stays there by intent
    (`let_go`). One conditional UPDATE decides: one row changed = released, none = somebody did it
    already. Locks the host's capacity first, as the recording of an inventory does.
    """
    with transaction.atomic():
        if failed:  # it may put the host into quarantine, and hosts are locked first
            list(
                Host.objects.select_for_update(no_key=True).filter(pk=placement.host_id).only("pk")
            )
        _lock_capacity(placement)
        closed = Placement.objects.filter(pk=placement.pk, closed_at=None).update(
            closed_at=Now(), outcome=outcome[:300], failed=failed, current=keep_current
        )
        if closed:
            placement.refresh_from_db()  # a resize may have changed its size meanwhile
            capacity.release(placement.host_id, placement.size)
            bell.ring_tick(PLACER)
            if not let_go:
                recording.on_closed(placement)
            if failed:
                quarantine.note_failure(placement)
    return bool(closed)


def grow(placement: Placement, size: Size) -> bool:
    """Charge the host for `placement` to be as large as `size`, where that is more than it is.

    Returns False, with nothing changed, when the host has no room. Raises nothing else; the caller
    gives back with `shrink` what was not used after all. Locks the capacity, then the placement.
    """
    with transaction.atomic():
        more = Size(*(max(0, size.of(name) - placement.size.of(name)) for name in RESOURCES))
        if not any(more.of(name) for name in RESOURCES):
            return True
        grown = {name: F(name) + more.of(name) for name in RESOURCES}
        if capacity.charge(placement.host_id, more):
            if (
                Placement.objects.open()
                .filter(pk=placement.pk, **_as_it_is(placement))
                .update(**grown)
            ):
                placement.refresh_from_db()
                return True
            transaction.set_rollback(True)
        return False


def shrink(placement: Placement, size: Size) -> None:
    """Give back what `placement` is charged beyond `size`, unless it was closed meanwhile."""
    with transaction.atomic():
        _lock_capacity(placement)
        locked = Placement.objects.open().filter(pk=placement.pk).first()
        if locked is None:
            return
        kept = {name: min(size.of(name), locked.size.of(name)) for name in RESOURCES}
        over = Size(*(locked.size.of(name) - kept[name] for name in RESOURCES))
        Placement.objects.filter(pk=placement.pk).update(**kept)
        capacity.release(placement.host_id, over)
        bell.ring_tick(PLACER)
        placement.refresh_from_db()


def _as_it_is(placement: Placement) -> dict[str, int]:
    return {name: placement.size.of(name) for name in RESOURCES}


def _lock_capacity(placement: Placement) -> None:
    rows = HostCapacity.objects.select_for_update().filter(host_id=placement.host_id)
    list(rows.values_list("pk"))


def let_go(placement: Placement, remote: RemoteVM) -> bool:
    """Close `placement` and count its VM as foreign at once; return whether this call did it.

    `remote` is the VM as its host shows it now: it must not carry our mark any more.
    """
    with transaction.atomic():
        if not close(placement, "It was let go.", keep_current=placement.current, let_go=True):
            return False
        Placement.objects.filter(pk=placement.pk).update(
            let_go_at=Now(), host_name=remote.name[:200]
        )
        ownership.disown(placement.host_id, remote)
    return True


def name_on_host(vm: VirtualMachine, mark: str) -> str:
    """Return the VM's name on a host: `<slug>-<mark>`."""
    return f"{slug(vm.name)}-{mark}"


def note_host_name(placement: Placement, host_name: str) -> None:
    """Store that the VM has another name on its host."""
    Placement.objects.filter(pk=placement.pk).update(host_name=host_name)


def note_sending(placement: Placement) -> None:
    """Store that the create call is about to be sent, by the database's clock.

    Also what is on the host before: the receipt compares with that after the VM's end.
    """
    noting.before_create(placement)
    Placement.objects.filter(pk=placement.pk).update(create_sent_at=Now())


def doubt(placement: Placement) -> None:
    """Note that nobody knows whether the VM came into being. The charge stays."""
    Placement.objects.filter(pk=placement.pk, doubtful_since=None).update(doubtful_since=Now())


def adopt(placement: Placement, host_vm_id: str) -> bool:
    """Store which VM of the host is this placement's; return False when it has another one."""
    if placement.host_vm_id == host_vm_id and placement.doubtful_since is None:
        return True  # as every list finds it again
    adopted = Placement.objects.filter(
        Q(host_vm_id="") | Q(host_vm_id=host_vm_id), pk=placement.pk
    ).update(host_vm_id=host_vm_id, doubtful_since=None)
    if adopted:
        placement.host_vm_id = host_vm_id
        placement.doubtful_since = None
    return bool(adopted)


def abandon(placement: Placement) -> None:
    """Leave an unreachable host's placement open, with its charge, and let another be tried."""
    Placement.objects.filter(pk=placement.pk, closed_at=None).update(
        abandoned_at=Now(), current=False
    )


def doubt_is_over(placement: Placement, began_at: datetime, seconds: float) -> bool:
    """Return whether a list begun at `began_at` is late enough to prove that the VM is not there.

    That is the create call's own limit plus `CREATE_DOUBT_SECONDS` after the call was sent, both
    moments by the database's clock.
    """
    sent = placement.create_sent_at
    return sent is None or began_at >= sent + timedelta(seconds=seconds)
