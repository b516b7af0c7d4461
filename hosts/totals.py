"""What the pool has, in sum: of the hosts that take VMs, by architecture."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from django.db.models import Count, Max, Sum

from hosts.models import RESOURCES, Host

if TYPE_CHECKING:
    from collections.abc import Iterable

    from accounts.actors import Actor

PARTS = ("total", "reserved", "foreign", "charged")


@dataclass(frozen=True)
class Totals:
    """Sums over some hosts; `amounts` is by `(resource, part)`. Memory in MiB, disk in GiB."""

    architecture: str
    hosts: int = 0
    cpu_brand: str = ""
    os_name: str = ""
    os_version: str = ""
    desktop_version: str = ""
    amounts: dict[tuple[str, str], int] = field(default_factory=dict)

    def part(self, resource: str, part: str) -> int:
        return self.amounts.get((resource, part), 0)

    def used(self, resource: str) -> int:
        return self.part(resource, "foreign") + self.part(resource, "charged")

    def free(self, resource: str) -> int:
        """Return what could still be charged; at least 0, also where hosts are over-committed."""
        total = self.part(resource, "total") - self.part(resource, "reserved")
        return max(0, total - self.used(resource))


def by_architecture(actor: Actor) -> list[Totals]:
    """Return the sums of each architecture, that with most hosts first. Costs one query.

    They name no host, so whoever may ask for VMs sees them as well.
    """
    if not (actor.can("hosts.view") or actor.can("vms.use")):
        return []
    columns = {
        f"{resource}_{part}": Sum(f"capacity__{resource}_{part}")
        for resource in RESOURCES
        for part in PARTS
    }
    shown = {
        name: Max(f"status__{name}")
        for name in ("cpu_brand", "os_name", "os_version", "desktop_version")
    }
    rows: Iterable[Any] = (
        Host.objects.taking_vms()
        .order_by()
        .values("status__architecture")
        .annotate(hosts=Count("pk"), **columns, **shown)
    )
    found = [
        Totals(
            architecture=row["status__architecture"],
            hosts=row["hosts"],
            amounts={
                (resource, part): row[f"{resource}_{part}"] or 0
                for resource in RESOURCES
                for part in PARTS
            },
            **{name: row[name] for name in shown},
        )
        for row in rows
    ]
    return sorted(found, key=lambda one: (-one.hosts, one.architecture))


def whole(parts: Iterable[Totals]) -> Totals:
    """Return the sum of `parts`, described as the first of them."""
    parts = list(parts)
    if not parts:
        return Totals("")
    first = parts[0]
    keys = [(resource, part) for resource in RESOURCES for part in PARTS]
    return Totals(
        first.architecture,
        sum(one.hosts for one in parts),
        first.cpu_brand,
        first.os_name,
        first.os_version,
        first.desktop_version,
        {key: sum(one.part(*key) for one in parts) for key in keys},
    )
