"""Writing what a host said of a VM: observed columns only, never intent."""

from __future__ import annotations

from typing import TYPE_CHECKING

from django.db import transaction
from django.db.models.functions import Now

from vms.lifecycle import announce
from vms.models import VirtualMachine

if TYPE_CHECKING:
    from collections.abc import Collection
    from datetime import datetime
    from uuid import UUID


def seen(
    vm: VirtualMachine, state: str, ip_address: str | None, *, began_at: datetime | None = None
) -> None:
    """Store the host's word for the VM's state, and its address.

    With `began_at` (a list's request began then) nothing is written when the VM was moved later:
    what a list saw before a click must not undo the click.
    """
    rows = VirtualMachine.objects.filter(pk=vm.pk)
    if began_at is not None:
        rows = rows.filter(changed_at__lt=began_at)
    ip_address = ip_address or ""
    changed = (vm.observed_state, vm.ip_address) != (state, ip_address)
    if not rows.update(
        observed_state=state,
        observed_at=Now() if began_at is None else began_at,
        ip_address=ip_address,
        missing_since=None,
    ):
        return
    vm.observed_state, vm.ip_address = state, ip_address
    if changed:
        announce(vm)


def unchanged(vm: VirtualMachine, state: str, ip_address: str | None) -> bool:
    """Return whether the host says of the VM what it said last."""
    known = (vm.observed_state, vm.ip_address, vm.missing_since)
    return known == (state, ip_address or "", None)


def still(vm_ids: Collection[UUID], began_at: datetime) -> None:
    """Store that a list that began then says nothing new of these VMs, as `seen` does of one."""
    with transaction.atomic():
        rows = VirtualMachine.objects.filter(pk__in=vm_ids, changed_at__lt=began_at)
        locked = list(rows.select_for_update().order_by("pk").values_list("pk", flat=True))
        VirtualMachine.objects.filter(pk__in=locked).update(observed_at=began_at)
