"""Reading what the rules need: hosts and wishes, in a few queries for a whole pass."""

from __future__ import annotations

from collections import defaultdict
from datetime import timedelta
from typing import TYPE_CHECKING, TypedDict

from django.db.models import Count
from django.utils import timezone

from catalog.models import HostImage
from hosts.capacity import Size
from hosts.models import RESOURCES, Health, Host, HostHold, HostVM
from vms import quarantine
from vms.models import Placement, Template
from vms.placement.rules import HostView, ImageView, Wish

if TYPE_CHECKING:
    from collections.abc import Iterable
    from uuid import UUID

    from hosts.models import HostCapacity
    from vms.models import VirtualMachine

FAILURE_WINDOW = timedelta(minutes=10)


def host_views(clone_sources: Iterable[str] = (), host_id: UUID | None = None) -> list[HostView]:
    """Return every present host (or one) as placement sees it. Six queries."""
    hosts = Host.objects.present().for_page()
    if host_id:
        hosts = hosts.filter(pk=host_id)
    cached: dict[UUID, set[tuple[str, str, str]]] = defaultdict(set)
    for host, *key in HostImage.objects.values_list(
        "host_id", "catalog_id", "version", "architecture"
    ):
        cached[host].add((key[0], key[1], key[2]))
    names: dict[UUID, set[str]] = defaultdict(set)
    if sources := set(clone_sources) - {""}:
        listed = HostVM.objects.filter(name__in=sources).values_list("host_id", "name")
        # One of ours is there before the next list says so.
        ours = Placement.objects.open().filter(host_name__in=sources).exclude(host_vm_id="")
        for host, name in [*listed, *ours.values_list("host_id", "host_name")]:
            names[host].add(name)
    probation = quarantine.on_probation()
    failures = dict(
        Placement.objects.filter(failed=True, closed_at__gt=timezone.now() - FAILURE_WINDOW)
        .values_list("host_id")
        .annotate(Count("id"))
    )
    return [
        HostView(
            id=host.pk,
            name=host.name,
            healthy=host.status.health == Health.HEALTHY,
            health=host.status.health,
            architecture=host.status.architecture,
            tags=frozenset(host.tags),
            holds=tuple(
                str(hold)
                for hold in host.live_holds  # type: ignore[attr-defined]
                if not (hold.kind == HostHold.Kind.QUARANTINE and host.pk in probation)
            ),
            on_probation=host.pk in probation,
            **room(host.capacity),
            latency_ms=host.status.latency_ms,
            cached=frozenset(cached[host.pk]),
            vm_names=frozenset(names[host.pk]),
            recent_failures=failures.get(host.pk, 0),
        )
        for host in hosts
    ]


class Room(TypedDict):
    """The fields of a HostView that come from its capacity."""

    total: dict[str, int]
    free: dict[str, int]
    overcommitted: bool
    disk_free_gib: int
    shared_volume: bool | None


def room(capacity: HostCapacity) -> Room:
    """Return what a host has room for."""
    return {
        "total": {
            resource: getattr(capacity, f"{resource}_total")
            - getattr(capacity, f"{resource}_reserved")
            for resource in RESOURCES
        },
        "free": {resource: capacity.free(resource) for resource in RESOURCES},
        "overcommitted": capacity.overcommitted,
        "disk_free_gib": capacity.disk_gib_free,
        "shared_volume": capacity.shared_volume,
    }


def wish_of(vm: VirtualMachine) -> Wish:
    """Return what `vm` asks of a host. Reads from prefetched `template.images` and `placements`."""
    template = vm.template
    usable = [
        image
        for image in template.images.all()
        if image.revoked_at is None and image.tainted_at is None
    ]
    return Wish(
        size=Size(vm.cpus, vm.memory_mib, vm.disk_gib),
        images={
            image.architecture: ImageView(
                id=image.pk,
                key=(image.catalog_id.upper(), image.version),
                architecture=image.architecture,
                macos=image.type == image.Type.MACVM,
                pack_size_mib=image.pack_size_mib,
            )
            for image in ([] if vm.clone_of else usable)
        },
        clone_of=vm.clone_of,
        macos=template.os == Template.OS.MACOS
        or any(image.type == image.Type.MACVM for image in usable),
        tags=frozenset(template.host_tags),
        host_id=vm.wanted_host_id,
        tried=frozenset(placement.host_id for placement in vm.placements.all()),
    )
