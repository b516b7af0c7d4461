"""The one place that moves a VM's `state`."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, Any

from django.db import transaction
from django.db.models import F
from django.db.models.functions import Greatest, Now

from accounts.permissions import scoped
from events.publishing import event_of, publish_all
from jobs import bell
from vms.models import Grant, Lease, VirtualMachine
from vms.states import MOVES, State

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from uuid import UUID

    from events.models import Event

PLACER = "vms.tasks.place"


def move(
    vm: VirtualMachine,
    to: State,
    *,
    expect: Iterable[State],
    reason: str | None = None,
    problem: str | None = None,
    **values: Any,
) -> bool:
    """Move `vm` to `to` if it is still in one of `expect`; return whether this call did it.

    A move that `MOVES` does not have raises `ValueError`. A final state ends the lease, gives the
    grant's place back and frees the name. Locks the grant's row before the VM's (see
    docs/decisions/0004).
    """
    expected = [State(state) for state in expect]
    if wrong := [state for state in expected if to not in MOVES[state]]:
        raise ValueError(f"A VM never moves from {', '.join(wrong)} to {to}.")
    final = to in State.final()
    with transaction.atomic():
        if final and vm.grant_id:
            list(Grant.objects.select_for_update().filter(pk=vm.grant_id).values("pk"))
        changes: dict[str, Any] = {"state": to, "changed_at": Now(), **values}
        if reason is not None:
            changes["reason"] = reason[:500]
        if problem is not None:
            changes["problem"] = problem[:500]
        if final:
            changes |= {"ended_at": Now(), "missing_since": None}
        if not VirtualMachine.objects.filter(pk=vm.pk, state__in=expected).update(**changes):
            return False
        if final:
            if vm.grant_id:
                Grant.objects.filter(pk=vm.grant_id, maximum_vms__isnull=False, vms__gt=0).update(
                    vms=F("vms") - 1
                )
            Lease.objects.filter(vm=vm, acted_at=None).update(acted_at=Now())
            bell.ring_tick(PLACER)
        vm.refresh_from_db()
        announce(vm)
    return True


def cancel_waiting(vms: Sequence[VirtualMachine], reason: str) -> set[UUID]:
    """Move those of `vms` that still wait for a host to cancelled; return which.

    As `move` does, in a few statements for all. Call it with up to a thousand.
    """
    with transaction.atomic():
        grant_ids = {vm.grant_id for vm in vms if vm.grant_id}
        grants = Grant.objects.select_for_update().filter(pk__in=grant_ids).order_by("pk")
        list(grants.values("pk"))
        waiting = VirtualMachine.objects.select_for_update().filter(
            pk__in=[vm.pk for vm in vms], state=State.PENDING
        )
        moved = list(waiting.order_by("pk"))
        ids = [vm.pk for vm in moved]
        VirtualMachine.objects.filter(pk__in=ids).update(
            state=State.CANCELLED, reason=reason[:500], changed_at=Now(), ended_at=Now()
        )
        for grant_id, count in Counter(vm.grant_id for vm in moved if vm.grant_id).items():
            Grant.objects.filter(pk=grant_id, maximum_vms__isnull=False).update(
                vms=Greatest(F("vms") - count, 0)
            )
        for vm in moved:
            vm.state = State.CANCELLED
        publish_all(map(_changed, moved))
        bell.ring_tick(PLACER)
    return set(ids)


def announce(vm: VirtualMachine) -> None:
    """Publish that the VM changed."""
    publish_all([_changed(vm)])


def _changed(vm: VirtualMachine) -> Event:
    return event_of(
        "vm.changed",
        vm.subject,
        {"name": vm.name, "state": vm.state, "ip_address": vm.ip_address},
        permission="vms.view_all",
        scope=scoped(vm.share_id),
        owner_id=vm.requested_by_id,
    )


def note_problem(vm: VirtualMachine, problem: str) -> None:
    """Show what went wrong with a VM that exists, without moving it. An empty text clears it."""
    if (
        VirtualMachine.objects.filter(pk=vm.pk)
        .exclude(problem=problem[:500])
        .update(problem=problem[:500])
    ):
        vm.problem = problem[:500]
        announce(vm)
