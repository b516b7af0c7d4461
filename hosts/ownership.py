"""Whose a listed VM is: moving its use between what is foreign and what we charge."""

from __future__ import annotations

from typing import TYPE_CHECKING

from django.db.models import Case, F, Q, Value, When
from django.db.models.functions import Now

from hosts.inventory import LARGEST, foreign_use, row_of
from hosts.models import RESOURCES, HostCapacity, HostVM

if TYPE_CHECKING:
    from uuid import UUID

    from hosts.drivers.base import RemoteVM


def claim(host_id: UUID, host_vm_id: str) -> HostVM | None:
    """Count a foreign VM no longer as foreign; return it as its host listed it last.

    The caller charges the host for it in the same transaction, in which the capacity stays locked.
    None when the host does not list it, or it is ours already.
    """
    _lock(host_id)
    rows = HostVM.objects.filter(host_id=host_id, host_vm_id=host_vm_id, claimed=False)
    found = rows.first()
    if found is None:
        return None
    rows.update(claimed=True)
    _recount(host_id)
    return found


def disown(host_id: UUID, remote: RemoteVM) -> None:
    """Count a VM, as its host shows it now, as foreign before the next list does.

    The caller has released its charge in the same transaction, so that nobody takes the room.
    """
    _lock(host_id)
    HostVM.objects.update_or_create(
        host_id=host_id,
        host_vm_id=remote.id,
        defaults={**row_of(remote), "claimed": False, "seen_at": Now()},
    )
    _recount(host_id)


def _lock(host_id: UUID) -> None:
    list(HostCapacity.objects.select_for_update().filter(pk=host_id).values_list("pk"))


def _recount(host_id: UUID) -> None:
    """Write foreign and `overcommitted` anew, in one statement, as the observer does."""
    use = foreign_use(HostVM.objects.filter(host_id=host_id, claimed=False))
    foreign = {resource: min(amount, LARGEST) for resource, amount in use.items()}
    fits = Q()
    for resource in RESOURCES:
        others = F(f"{resource}_charged") + F(f"{resource}_reserved")
        fits &= Q(**{f"{resource}_total__gte": others + foreign[resource]})
    HostCapacity.objects.filter(pk=host_id).update(
        **{f"{resource}_foreign": amount for resource, amount in foreign.items()},
        overcommitted=Case(When(fits, then=Value(False)), default=Value(True)),
    )
