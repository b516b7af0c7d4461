"""Charging a host, and taking the charge back: one conditional UPDATE each."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from django.db.models import F

from hosts.models import RESOURCES, HostCapacity

if TYPE_CHECKING:
    from uuid import UUID


@dataclass(frozen=True)
class Size:
    """What a VM takes of a host from placement to the proof of its end."""

    cpus: int
    memory_mib: int
    disk_gib: int
    macos_slots: int = 0

    def of(self, resource: str) -> int:
        return getattr(self, resource)


def charge(host_id: UUID, size: Size) -> bool:
    """Charge the host if it is not over-committed and everything fits; return whether it did."""
    fits = {
        f"{resource}_total__gte": F(f"{resource}_charged")
        + F(f"{resource}_foreign")
        + F(f"{resource}_reserved")
        + size.of(resource)
        for resource in RESOURCES
        if size.of(resource)
    }
    changed = HostCapacity.objects.filter(host_id=host_id, overcommitted=False, **fits).update(
        **{
            f"{resource}_charged": F(f"{resource}_charged") + size.of(resource)
            for resource in RESOURCES
            if size.of(resource)
        }
    )
    return changed == 1


def release(host_id: UUID, size: Size) -> None:
    """Take a charge back. The caller must own it: closing a Placement decides who does."""
    HostCapacity.objects.filter(host_id=host_id).update(
        **{
            f"{resource}_charged": F(f"{resource}_charged") - size.of(resource)
            for resource in RESOURCES
            if size.of(resource)
        }
    )
