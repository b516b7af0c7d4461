"""What a host lists: reading it, and recording it beside the charges without touching them."""

from __future__ import annotations

import random
from dataclasses import replace
from datetime import timedelta
from typing import TYPE_CHECKING, Any

from django.conf import settings
from django.db import transaction
from django.db.models import Case, Q, Value, When

from events.publishing import publish
from hosts import lifecycle
from hosts.calls import driver_of
from hosts.drivers.base import HostError
from hosts.health import REASON_LENGTH, Vitals, failing_check, settle
from hosts.lifecycle import Listing
from hosts.models import RESOURCES, HostCapacity, HostStatus, HostVM
from orchestrator.db.clock import database_now

if TYPE_CHECKING:
    from collections.abc import Iterable
    from uuid import UUID

    from hosts.drivers.base import Hardware, RemoteVM
    from hosts.models import Host

# States in which a VM uses nothing but its disk; docs/decisions/0003-what-foreign-vms-count.md.
POWERED_OFF = frozenset({"stopped", "suspended"})
FIRM_FAILURES = 2  # failed tries in a row before a passing trouble becomes a failing check
# Three of these fit into a database integer, so that no sum of a CHECK overflows: a host that
# claims more is wrong, and over-committed rather than unreadable.
LARGEST = 700_000_000
NOT_STORED = "Its inventory could not be stored. The log tells more under the id of the host."

_VM_FIELDS = (
    "name",
    "state",
    "type",
    "os",
    "cpus",
    "memory_mib",
    "disk_gib",
    "ip_address",
    "home",
)


def refresh(host: Host) -> Listing:
    """Read the host's inventory now and record it. No transaction is open while it answers.

    Raises `HostError` after noting it as the host's problem.
    """
    began_at = database_now()
    try:
        with driver_of(host) as driver:
            inventory = driver.inventory()
    except HostError as error:
        note_failure(host, error)
        raise
    return record(host, Listing(began_at, inventory))


def record(host: Host, listing: Listing) -> Listing:
    """Record a complete answer of the host, in one transaction; return what may be concluded.

    Ignored (and returned with `counts=False`) when the host was removed or a list that began
    later is recorded. Locks the host's status, then its capacity, before the rooms' entries lock
    VMs and Placements: whoever closes a Placement takes the capacity first, too.
    """
    with transaction.atomic():
        status = _lock(host)
        if status is None or _is_stale(status, listing):
            return replace(listing, counts=False)
        capacity = HostCapacity.objects.select_for_update().get(pk=host.pk)
        listing = replace(listing, counts=_counts(host, status, listing))
        before = Vitals.of(status)
        changed = _write_status(status, listing)
        claimed: set[str] = set()
        for entry in lifecycle.on_inventory:
            claimed |= entry(host, listing)
        if listing.counts:
            changed |= _write_vms(host, listing, claimed)
        changed |= _write_capacity(host, capacity, listing.inventory.hardware)
        told = settle(host, before, before.checked(status.inventory_problem))
        if changed and not told:
            _tell(host)
    return listing


def note_failure(host: Host, error: HostError | str) -> None:
    """Note that the host could not be inventoried: at once if that is permanent, else when it
    happens again. The next try comes at once, then later and later.
    """
    if isinstance(error, str):
        message, permanent = error, True
    else:
        message, permanent = error.message, error.permanent
    with transaction.atomic():
        status = _lock(host)
        if status is None:
            return
        before = Vitals.of(status)
        status.inventory_failures += 1
        pause = 0.0
        if permanent or status.inventory_failures >= FIRM_FAILURES:
            status.inventory_problem = message[:REASON_LENGTH]
            growing = settings.HOST_POLL_SECONDS * 2 ** min(status.inventory_failures, 10)
            pause = min(settings.HOST_INVENTORY_SECONDS, growing)
        now = database_now()
        status.inventory_due_at = now + timedelta(seconds=pause)
        if not pause:
            status.next_poll_at = now
        status.save(
            update_fields=[
                "inventory_failures",
                "inventory_problem",
                "inventory_due_at",
                *([] if pause else ["next_poll_at"]),
            ]
        )
        told = settle(host, before, before.checked(status.inventory_problem))
        if before.problem != status.inventory_problem and not told:
            _tell(host)


def _lock(host: Host) -> HostStatus | None:
    """Lock the status of the host, which lets one list at a time in; None when it was removed."""
    return (
        HostStatus.objects.select_for_update(of=("self",))
        .filter(pk=host.pk, host__removed_at=None)
        .first()
    )


def _is_stale(status: HostStatus, listing: Listing) -> bool:
    """Return whether a list that began later is recorded already, whether it counted or not."""
    recorded = [moment for moment in (status.inventory_at, status.empty_since) if moment]
    return any(listing.began_at < moment for moment in recorded)


def _counts(host: Host, status: HostStatus, listing: Listing) -> bool:
    """Return whether absence from the list means anything: an empty one needs a second."""
    if listing.inventory.vms or status.empty_since is not None:
        return True
    return not HostVM.objects.filter(host=host).exists()


def _write_status(status: HostStatus, listing: Listing) -> bool:
    """Store what the host says about itself and when to ask again; return whether it is news."""
    hardware = listing.inventory.hardware
    now = database_now()
    # Somebody who asked for a list after this one began gets a newer one.
    asked_again = listing.began_at < status.inventory_due_at <= now
    facts = {
        "architecture": hardware.architecture,
        "cpu_brand": hardware.cpu_brand[:100],
        "os_name": hardware.os_name[:50],
        "os_version": hardware.os_version[:50],
        "devops_version": hardware.devops_version[:50],
        "desktop_version": hardware.desktop_version[:50],
        "inventory_problem": failing_check(hardware)[:REASON_LENGTH],
    }
    changed = _differs(status, facts)
    if listing.counts:
        schedule = {"inventory_at": listing.began_at, "empty_since": None}
        if not asked_again:
            schedule["inventory_due_at"] = now + timedelta(seconds=inventory_pause())
    else:
        # It had VMs a moment ago: a second look, at once, decides.
        schedule = {"empty_since": listing.began_at, "inventory_due_at": now, "next_poll_at": now}
    values: dict[str, Any] = {
        **facts,
        **schedule,
        "clock_offset_seconds": hardware.clock_offset_seconds,
        "inventory_failures": 0,
    }
    for name, value in values.items():
        setattr(status, name, value)
    status.save(update_fields=list(values))
    return changed


def inventory_pause() -> float:
    """Return the seconds until the next inventory, spread so that hosts do not march in step."""
    return settings.HOST_INVENTORY_SECONDS * random.uniform(0.95, 1.05)


def _write_vms(host: Host, listing: Listing, claimed: set[str]) -> bool:
    """Make the stored list equal to `listing`; return whether anything changed but its age."""
    known = {row.host_vm_id: row for row in HostVM.objects.filter(host=host)}
    listed = {vm.id: vm for vm in listing.inventory.vms}
    news: list[HostVM] = []
    for vm_id, vm in sorted(listed.items()):
        values = row_of(vm) | {"claimed": vm_id in claimed}
        row = known.get(vm_id)
        if row is None or _differs(row, values):
            news.append(HostVM(host=host, host_vm_id=vm_id, seen_at=listing.began_at, **values))
    gone = [row.pk for vm_id, row in known.items() if vm_id not in listed]
    if gone:
        HostVM.objects.filter(pk__in=gone).delete()
    if news:
        HostVM.objects.bulk_create(
            news,
            update_conflicts=True,
            unique_fields=["host", "host_vm_id"],
            update_fields=[*_VM_FIELDS, "claimed", "seen_at"],
        )
    HostVM.objects.filter(host=host).exclude(seen_at=listing.began_at).update(
        seen_at=listing.began_at
    )
    return bool(gone or news)


def row_of(vm: RemoteVM) -> dict[str, Any]:
    """Return what is stored of a listed VM, cut to what the columns take."""
    return {
        "name": vm.name[:300],
        "state": vm.state[:30],
        "type": vm.type,
        "os": vm.os[:100],
        "cpus": min(vm.cpus, LARGEST),
        "memory_mib": min(vm.memory_mib, LARGEST),
        "disk_gib": min(vm.disk_gib, LARGEST),
        "ip_address": (vm.ip_address or "")[:60],
        "home": vm.home,
    }


def foreign_use(vms: Iterable[HostVM]) -> dict[str, int]:
    """Return what the unclaimed VMs of a host take of each resource (decision 0003)."""
    use = dict.fromkeys(RESOURCES, 0)
    for vm in vms:
        if vm.claimed:
            continue
        use["disk_gib"] += vm.disk_gib
        if vm.state in POWERED_OFF:
            continue
        use["cpus"] += vm.cpus
        use["memory_mib"] += vm.memory_mib
        use["macos_slots"] += vm.type == "macvm"
    return use


def _write_capacity(host: Host, old: HostCapacity, hardware: Hardware) -> bool:
    """Write total, reserved, foreign and `overcommitted` in one statement; never `charged`.

    Returns whether anything but the free disk changed. Tells the rooms above when there is more.
    """
    foreign = foreign_use(HostVM.objects.filter(host=host, claimed=False))
    totals = {
        "cpus": (hardware.total_cpus, hardware.reserved_cpus),
        "memory_mib": (hardware.total_memory_mib, hardware.reserved_memory_mib),
        "disk_gib": (hardware.total_disk_gib, hardware.reserved_disk_gib),
        "macos_slots": (hardware.macos_slots, 0),
    }
    values: dict[str, Any] = {"shared_volume": hardware.shared_volume}
    fits = Q()
    for resource, amounts in totals.items():
        total, reserved, used = (min(n, LARGEST) for n in (*amounts, foreign[resource]))
        values[f"{resource}_total"] = total
        values[f"{resource}_reserved"] = reserved
        values[f"{resource}_foreign"] = used
        fits &= Q(**{f"{resource}_charged__lte": total - reserved - used})
    changed = _differs(old, values)
    HostCapacity.objects.filter(host=host).update(
        **values,
        disk_gib_free=min(hardware.free_disk_gib, LARGEST),
        overcommitted=Case(When(fits, then=Value(False)), default=Value(True)),
    )
    new = HostCapacity.objects.get(host=host)
    grew = any(new.free(resource) > old.free(resource) for resource in RESOURCES)
    if grew or (old.overcommitted and not new.overcommitted):
        lifecycle.tell_available(host)
    return changed or old.overcommitted != new.overcommitted


def _differs(row: Any, values: dict[str, Any]) -> bool:
    return any(getattr(row, name) != value for name, value in values.items())


def _tell(host: Host) -> None:
    publish("host.changed", f"host:{host.pk}", {"name": host.name}, permission="hosts.view")


def listed_elsewhere(host_id: UUID, host_vm_id: str = "") -> dict[str, list[str]]:
    """Return the names of other hosts that list VMs with ids that this one lists, too, by id.

    Copied and moved VMs may share an id (contract 3.8). With `host_vm_id` only of that one. It is
    told to people and means nothing else: whose a VM is, its mark says, on its own host only.
    """
    here = HostVM.objects.filter(host=host_id)
    if host_vm_id:
        here = here.filter(host_vm_id=host_vm_id)
    rows = (
        HostVM.objects.filter(host_vm_id__in=here.values("host_vm_id"), host__removed_at=None)
        .exclude(host=host_id)
        .order_by("host__name")
        .values_list("host_vm_id", "host__name")
    )
    found: dict[str, list[str]] = {}
    for vm_id, name in rows:
        found.setdefault(vm_id, []).append(name)
    return found


def listed_ids(host_id: UUID) -> set[str]:
    """Return the host's VM ids as it listed them last."""
    return set(HostVM.objects.filter(host_id=host_id).values_list("host_vm_id", flat=True))
