"""Closing a Placement: the one place that gives a charge back."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING

from django.db import transaction
from django.db.models import Q
from django.db.models.functions import Now

from hosts import capacity
from hosts.models import HostCapacity
from jobs import bell
from vms.lifecycle import PLACER
from vms.models import Placement

if TYPE_CHECKING:
    from datetime import datetime


def close(
    placement: Placement, outcome: str, *, failed: bool = False, keep_current: bool = False
) -> bool:
    """Close `placement` and release its charge; return whether this call did it.

    One conditional UPDATE decides: one row changed = released, none = somebody did it already.
    Locks the host's capacity first, as the recording of an inventory does.
    """
    with transaction.atomic():
        list(
            HostCapacity.objects.select_for_update()
            .filter(host_id=placement.host_id)
            .values_list("pk")
        )
        closed = Placement.objects.filter(pk=placement.pk, closed_at=None).update(
            closed_at=Now(), outcome=outcome[:300], failed=failed, current=keep_current
        )
        if closed:
            capacity.release(placement.host_id, placement.size)
            bell.ring_tick(PLACER)
            placement.refresh_from_db()
    return bool(closed)


def note_sending(placement: Placement) -> None:
    """Store that the create call is about to be sent, by the database's clock."""
    Placement.objects.filter(pk=placement.pk).update(create_sent_at=Now())
    placement.refresh_from_db(fields=["create_sent_at"])


def doubt(placement: Placement) -> None:
    """Note that nobody knows whether the VM came into being. The charge stays."""
    Placement.objects.filter(pk=placement.pk, doubtful_since=None).update(doubtful_since=Now())


def adopt(placement: Placement, host_vm_id: str) -> bool:
    """Store which VM of the host is this placement's; return False when it has another one."""
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
