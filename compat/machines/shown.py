"""What a VM looks like in this API: the keys of `prlctl list --json` and what orchestrators add."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from django.utils import timezone

from hosts.models import Health, HostVM
from vms.configuration import shown_options
from vms.models import Placement, Template
from vms.states import State

if TYPE_CHECKING:
    from collections.abc import Sequence
    from uuid import UUID

    from accounts.actors import Actor
    from hosts.models import Host
    from vms.models import VirtualMachine

NO_ADDRESS = "-"
# Tools keep waiting in these words only: Jenkins gives up on any other.
STATES = {
    State.PENDING: "pending",
    State.CREATING: "pending",
    State.STARTING: "starting",
    State.RESUMING: "starting",
    State.RUNNING: "running",
    State.STOPPING: "stopping",
    State.SUSPENDING: "stopping",
    State.PAUSING: "stopping",
    State.DELETING: "stopping",
    State.STOPPED: "stopped",
    State.SUSPENDED: "suspended",
    State.PAUSED: "paused",
}
APPLE_VM = "APPLE_VZ_VM"
_TYPES = {"pvm": "VM", "macvm": APPLE_VM}
_SYSTEMS = {Template.OS.MACOS: "macosx", Template.OS.WINDOWS: "win", Template.OS.LINUX: "linux"}
# Parts that are not known here. Typed clients read an empty one as all unset.
_EMPTY = (
    *("Mouse and Keyboard", "USB and Bluetooth", "Optimization", "Travel mode", "Security"),
    *("Smart Guard", "Modality", "Fullscreen", "Coherence", "Time Synchronization", "Expiration"),
    *("SMBIOS settings", "Host Shared Folders", "Shared Profile", "Shared Applications"),
    *("SmartMount", "Miscellaneous Sharing", "Advanced", "Print Management"),
    "Guest Shared Folders",
)


def state_of(vm: VirtualMachine) -> str:
    """Return the VM's state in the contract's words."""
    return STATES.get(State(vm.state), "stopped")


def host_facts(actor: Actor, host: Host) -> dict[str, Any]:
    """Return what a record says of its host. Its address is for those who may see hosts."""
    may_see = actor.can("hosts.view")
    address = urlsplit(host.url).hostname or ""
    return {
        "host": host.url if may_see else host.name,
        "host_url": address if may_see else host.name,
        "host_id": str(host.pk),
        "host_name": host.name,
        "host_state": "healthy" if host.status.health == Health.HEALTHY else "unhealthy",
        "host_external_ip_address": address if may_see else NO_ADDRESS,
    }


def records(actor: Actor, vms: Sequence[VirtualMachine]) -> list[dict[str, Any]]:
    """Return the records of `vms`, which come with their hosts. Two queries, however many."""
    placed = {
        placement.vm_id: placement
        for placement in Placement.objects.filter(vm__in=vms, current=True).only(
            "vm_id", "host_id", "host_vm_id"
        )
        if placement.host_vm_id
    }
    ids = {placement.host_vm_id for placement in placed.values()}
    listed: dict[tuple[UUID, str], HostVM] = {
        (one.host_id, one.host_vm_id): one for one in HostVM.objects.filter(host_vm_id__in=ids)
    }
    found = []
    for vm in vms:
        at = placed.get(vm.pk)
        found.append(_record(actor, vm, listed.get((at.host_id, at.host_vm_id)) if at else None))
    return found


def record(actor: Actor, vm: VirtualMachine) -> dict[str, Any]:
    """Return the record of one VM."""
    return records(actor, [vm])[0]


def _record(actor: Actor, vm: VirtualMachine, listed: HostVM | None) -> dict[str, Any]:
    macos = vm.template.os == Template.OS.MACOS
    running = vm.state == State.RUNNING
    uptime = int((timezone.now() - vm.changed_at).total_seconds()) if running else 0
    record = {
        "ID": str(vm.pk),
        **(host_facts(actor, vm.host) if vm.host else {}),
        "internal_ip_address": vm.ip_address or NO_ADDRESS,
        "user": vm.requested_by.username if vm.requested_by else "",
        "Name": vm.name,
        "Description": "",
        "Type": _TYPES.get(listed.type, "VM") if listed else (APPLE_VM if macos else "VM"),
        "State": state_of(vm),
        "OS": (listed.os if listed else "") or _SYSTEMS.get(Template.OS(vm.template.os), "other"),
        "Uptime": str(max(0, uptime)),
        "Home": f"{listed.home}/" if listed and listed.home else "",
        **_machine(vm.cpus, vm.memory_mib, vm.disk_gib, vm.ip_address),
    }
    return _configured(record, vm)


# Where typed clients want another type than text.
_WHOLE = ("Autostart delay", "Interval (in seconds)")


def _configured(record: dict[str, Any], vm: VirtualMachine) -> dict[str, Any]:
    """Add to a record what was set of the VM, as its host showed it then."""
    for path, value in shown_options(vm):
        part = record
        for key in path[:-1]:
            part = part.setdefault(key, {})
        if path[-1] in _WHOLE:
            part[path[-1]] = int(value) if value.isdecimal() else 0
        elif path[-1] == "enabled":
            part[path[-1]] = value == "on"
        else:
            part[path[-1]] = f"{value}Mb" if path[-1] == "size" else value
    if folders := vm.configuration.get("folders"):
        shared = {
            name: {
                "enabled": folder["enabled"],
                "path": folder["path"],
                "mode": "rw" if folder["writable"] else "ro",
            }
            for name, folder in folders.items()
        }
        record["Host Shared Folders"] = {"enabled": True, **shared}
    for name, connected in vm.configuration.get("devices", {}).items():
        device = record["Hardware"].setdefault(name, {"enabled": True})
        if not connected:
            device["state"] = "disconnected"
    return record


def foreign_record(actor: Actor, listed: HostVM) -> dict[str, Any]:
    """Return the record of a VM that a host lists and that is not ours: to be looked at only."""
    return {
        "ID": listed.host_vm_id,
        **host_facts(actor, listed.host),
        "internal_ip_address": listed.ip_address or NO_ADDRESS,
        "user": "",
        "Name": listed.name,
        "Description": "",
        "Type": _TYPES.get(listed.type, "VM"),
        "State": listed.state,
        "OS": listed.os,
        "Uptime": "0",
        "Home": f"{listed.home}/" if listed.home else "",
        **_machine(listed.cpus, listed.memory_mib, listed.disk_gib, listed.ip_address),
    }


def _machine(cpus: int, memory_mib: int, disk_gib: int, ip_address: str) -> dict[str, Any]:
    limits = {"Bandwidth": "", "Packet Loss": "", "Delay": ""}
    return {
        "Template": "no",
        "Home path": "",
        "Restore Image": "",
        "GuestTools": {"state": "installed" if ip_address else "unknown"},
        "Startup and Shutdown": {"Autostart": "off", "Autostart delay": 0},
        "Boot order": "",
        "BIOS type": "",
        "EFI Secure boot": "",
        "Allow select boot device": "",
        "External boot device": "",
        "Host defined sharing": "",
        **{name: {} for name in _EMPTY},
        "Hardware": {
            "cpu": {"cpus": cpus, "auto": "off", "VT-x": True, "hotplug": False},
            "memory": {"size": f"{memory_mib}Mb", "auto": "off", "hotplug": False},
            "hdd0": {"enabled": True, "size": f"{disk_gib * 1024}Mb"},
        },
        "Network": {
            "Conditioned": "off",
            "Inbound": limits,
            "Outbound": limits,
            "ipAddresses": [{"type": "ipv4", "ip": ip_address}] if ip_address else [],
        },
    }
