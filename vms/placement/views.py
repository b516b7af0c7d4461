"""Reading what the rules need: hosts and wishes, in a few queries for a whole pass."""

from __future__ import annotations

from collections import Counter, defaultdict
from datetime import timedelta
from typing import TYPE_CHECKING, TypedDict

from django.conf import settings
from django.db.models import Count, Prefetch, Sum
from django.db.models.functions import Now
from django.utils import timezone

from accounts.models import Role
from catalog.models import HostImage, Image
from hosts.capacity import Size
from hosts.models import RESOURCES, Health, Host, HostCapacity, HostHold, HostVM
from vms import quarantine
from vms.models import LeaseEnd, Placement, Template, VirtualMachine
from vms.placement.rules import HostView, ImageView, Wish
from vms.placement.scheduling import Asking, Release, Use, in_order, rank
from vms.states import State

if TYPE_CHECKING:
    from collections.abc import Iterable
    from datetime import datetime
    from uuid import UUID

FAILURE_WINDOW = timedelta(minutes=10)
PER_ACCOUNT = 200  # pending VMs of one account that a pass looks at
ENDING = timedelta(seconds=60)  # from the end of a lease to the room that it gives back


def host_views(clone_sources: Iterable[str] = (), host_id: UUID | None = None) -> list[HostView]:
    """Return every present host (or one) as placement sees it. Six queries."""
    hosts = Host.objects.present().for_page()
    if host_id:
        hosts = hosts.filter(pk=host_id)
    cached: dict[UUID, set[tuple[str, str, str]]] = defaultdict(set)
    for host, *key in HostImage.objects.filter(going_since=None).values_list(
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
        if image.revoked_at is None and image.tainted_at is None and image.removed_at is None
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
                minimum={
                    "cpus": image.minimum_cpus,
                    "memory_mib": image.minimum_memory_mib,
                    "disk_gib": image.minimum_disk_gib,
                },
            )
            for image in ([] if vm.clone_of else usable)
        },
        clone_of=vm.clone_of,
        macos=template.os == Template.OS.MACOS
        or any(image.type == image.Type.MACVM for image in usable),
        tags=frozenset(template.host_tags),
        any_tags=frozenset(vm.wanted_tags),
        architecture=vm.wanted_architecture,
        host_id=vm.wanted_host_id,
        tried=frozenset(placement.host_id for placement in vm.placements.all()),
    )


def line_up(limit: int) -> tuple[list[VirtualMachine], bool]:
    """Return the first `limit` pending VMs in the queue's order, with what placing them needs.

    At most `PER_ACCOUNT` of one account: a thousand that wait for a quota keep nobody else out.
    Also returns whether others wait behind these.
    """
    waiting = list(
        VirtualMachine.objects.pending()
        .exclude(waits_until__lte=Now())
        .values_list("pk", "priority", "created_at", "share", "cpus", "memory_mib", "requested_by")
    )
    if not waiting:
        return [], False
    now = timezone.now()
    asking = [
        Asking(
            pk,
            rank(priority, (now - asked).total_seconds(), settings.QUEUE_AGING_SECONDS),
            share,
            Use(cpus, memory_mib),
        )
        for pk, priority, asked, share, cpus, memory_mib, _ in waiting
    ]
    accounts = {row[0]: row[-1] for row in waiting}
    seen: Counter[UUID | None] = Counter()
    order: list[UUID] = []
    for one in in_order(asking, *_shares()):
        account = accounts[one.id]
        seen[account] += 1
        if seen[account] <= PER_ACCOUNT:
            order.append(one.id)
        if len(order) == limit:
            break
    found = (
        VirtualMachine.objects.pending()
        .select_related("template", "requested_by", "grant", "create_job")
        .prefetch_related(
            Prefetch("template__images", Image.objects.filter(source__active=True)), "placements"
        )
        .in_bulk(order)
    )
    return [found[pk] for pk in order if pk in found], len(order) < len(waiting)


def _shares() -> tuple[dict[UUID | None, Use], dict[UUID | None, int], Use]:
    """Return what each share has placed, its weight, and the whole pool."""
    used = {
        share: Use(cpus, memory_mib)
        for share, cpus, memory_mib in VirtualMachine.objects.placed()
        .order_by()
        .values_list("share")
        .annotate(Sum("cpus"), Sum("memory_mib"))
    }
    weights: dict[UUID | None, int] = dict(Role.objects.values_list("pk", "weight"))
    pool = HostCapacity.objects.filter(host__removed_at=None).aggregate(
        cpus=Sum("cpus_total"), memory_mib=Sum("memory_mib_total")
    )
    return used, weights, Use(pool["cpus"] or 0, pool["memory_mib"] or 0)


def releases(now: datetime) -> dict[UUID, list[Release]]:
    """Return by host what the ends of leases give back, and when. One query.

    A VM that is stopped or kept at the end of its lease gives nothing back.
    """
    found: dict[UUID, list[Release]] = defaultdict(list)
    current = Placement.objects.open().filter(current=True)
    for placement in current.select_related("vm__template", "vm__lease"):
        if (at := _gives_back_at(placement, now)) is not None:
            amounts = {name: placement.size.of(name) for name in RESOURCES}
            found[placement.host_id].append(Release(at, amounts))
    return found


def _gives_back_at(placement: Placement, now: datetime) -> datetime | None:
    vm = placement.vm
    if vm.state == State.DELETING:
        return now + ENDING
    if vm.pool_id or vm.template.lease_end != LeaseEnd.DELETE:
        return None  # one of a warm pool has no lease: it goes when somebody needs its room
    lease = getattr(vm, "lease", None)
    if lease is None:  # it is being made
        margin = vm.lease_seconds + settings.QUEUE_MARGIN_SECONDS
        return placement.created_at + timedelta(seconds=margin)
    return max(lease.ends_at, lease.held_until or lease.ends_at, now) + ENDING
