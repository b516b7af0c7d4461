"""What `set` changes of a VM beside its size, state and name (contract 2.3, 8.24).

The flags are those of `prlctl set`, each with the place in a record where it shows. What is not
here is refused, as `prlctl` refuses what it does not know.
"""

from __future__ import annotations

import copy
import re
import time
from dataclasses import dataclass, field
from typing import Any

from hosts.simulator.wire import Fields, RefusedError
from hosts.simulator.world import VM

_STARTUP, _SPEED = ("Startup and Shutdown",), ("Optimization",)
_TIME, _ADVANCED, _VIDEO = ("Time Synchronization",), ("Advanced",), ("Hardware", "video")
SHOWN: dict[str, tuple[str, ...]] = {
    "description": ("Description",),
    "startup-view": (*_STARTUP, "Startup view"),
    "autostart": (*_STARTUP, "Autostart"),
    "autostart-delay": (*_STARTUP, "Autostart delay"),
    "autostop": (*_STARTUP, "Autostop"),
    "on-shutdown": (*_STARTUP, "On shutdown"),
    "on-window-close": (*_STARTUP, "On window close"),
    "pause-idle": (*_STARTUP, "Pause idle"),
    "undo-disks": (*_STARTUP, "Undo disks"),
    "faster-vm": (*_SPEED, "Faster virtual machine"),
    "hypervisor-type": (*_SPEED, "Hypervisor type"),
    "adaptive-hypervisor": (*_SPEED, "Adaptive hypervisor"),
    "disable-win-logo": (*_SPEED, "Disabled Windows logo"),
    "auto-compress": (*_SPEED, "Auto compress virtual disks"),
    "nested-virt": (*_SPEED, "Nested virtualization"),
    "pmu-virt": (*_SPEED, "PMU virtualization"),
    "longer-battery-life": (*_SPEED, "Longer battery life"),
    "battery-status": (*_SPEED, "Show battery status"),
    "resource-quota": (*_SPEED, "Resource quota"),
    "cpu-type": ("Hardware", "cpu", "type"),
    "videosize": (*_VIDEO, "size"),
    "3d-accelerate": (*_VIDEO, "3d-acceleration"),
    "vertical-sync": (*_VIDEO, "vertical-sync"),
    "high-resolution": (*_VIDEO, "high-resolution"),
    "device-bootorder": ("Boot order",),
    "efi-secure-boot": ("EFI Secure boot",),
    "select-boot-device": ("Allow select boot device",),
    "external-boot-device": ("External boot device",),
    "time-sync": (*_TIME, "enabled"),
    "time-sync-smart-mode": (*_TIME, "Smart mode"),
    "time-sync-interval": (*_TIME, "Interval (in seconds)"),
    "disable-timezone-sync": (*_TIME, "Timezone synchronization disabled"),
    "rosetta-linux": (*_ADVANCED, "Rosetta Linux"),
    "sync-vm-hostname": (*_ADVANCED, "VM hostname synchronization"),
    "sync-ssh-ids": (*_ADVANCED, "Public SSH keys synchronization"),
    "show-dev-tools": (*_ADVANCED, "Show developer tools"),
    "swipe-from-edges": (*_ADVANCED, "Swipe from edges"),
    "share-host-location": (*_ADVANCED, "Share host location"),
}
_BOOT = {
    "boot-order": "device-bootorder",
    "efi-secure-boot": "efi-secure-boot",
    "select-boot-device": "select-boot-device",
    "external-boot-device": "external-boot-device",
}
_TIMES = {
    "time-sync": "time-sync",
    "time-sync-smart-mode": "time-sync-smart-mode",
    "time-sync-interval": "time-sync-interval",
    "disable-timezone-synct": "disable-timezone-sync",
}
_SWITCH = {"true": "on", "false": "off"}
_DEVICE = re.compile(r"(?:cdrom|usb|net|sound|fdd)\d*")


@dataclass(slots=True)
class Operation:
    """One operation of a request, in the words of the contract."""

    group: str
    name: str
    value: str
    options: dict[str, str] = field(default_factory=dict)
    flags: list[str] = field(default_factory=list)


def read(group: str, name: str, operation: Fields) -> Operation:
    """Return the operation of these words with the rest of its row."""
    flags = operation.get("flags") or []
    if not isinstance(flags, list) or not all(isinstance(flag, str) for flag in flags):
        raise RefusedError(400, "Invalid request body: flags must be a list of strings")
    options = {row.text("flag"): row.text("value") for row in operation.rows("options")}
    return Operation(group, name, operation.text("value"), options, flags)


def apply(vm: VM, operation: Operation) -> None:
    """Carry it out; raises ``RefusedError`` 400 with what a host would say."""
    match operation.group, operation.name:
        case "network", _:
            pass  # accepted without effect
        case "rosetta", "set":
            _need_stopped(vm)
            _set(vm, "rosetta-linux", operation.value)
        case "cpu", "set_type":
            _need_stopped(vm)
            if operation.value not in ("x86", "arm"):
                raise RefusedError(400, f"error 400: Invalid CPU type {operation.value}")
            _set(vm, "cpu-type", operation.value)
        case ("boot-order" | "efi-secure-boot" | "select-boot-device", name) if name in _BOOT:
            _set(vm, _BOOT[name], operation.value)
        case "time", name if name in _TIMES:
            _set(vm, _TIMES[name], operation.value)
        case "shared-folder", name:
            _share(vm, name, operation)
        case "device", "connect" | "disconnect":
            _plug(vm, operation.value, connected=operation.name == "connect")
        case "cmd", "set":
            _need_stopped(vm)
            if operation.flags:
                raise RefusedError(400, f"error 400: unknown option --{operation.flags[0]}")
            for flag, value in operation.options.items():
                _set(vm, flag, value)
        case "machine", "reset-uptime":
            vm.booted_at = time.time() if vm.booted_at else 0.0
        case "machine", "install-tools":
            if vm.state != "running":
                raise RefusedError(400, f"error 400: machine {vm.name} is {vm.state}, not running")
        case _:
            raise RefusedError(
                400, f"error 400: Invalid operation {operation.group} {operation.name}"
            )


def _need_stopped(vm: VM) -> None:
    if vm.state != "stopped":
        raise RefusedError(400, "error 400: VM is not stopped")


def _set(vm: VM, flag: str, value: str) -> None:
    if flag not in SHOWN:
        raise RefusedError(400, f"error 400: unknown option --{flag}")
    if not value and flag not in ("description", "external-boot-device"):
        raise RefusedError(400, f"error 400: --{flag} needs a value")
    if flag == "description":
        vm.description = value
        return
    options = vm.configuration.setdefault("options", {})
    options[flag] = _SWITCH.get(value, value)


def _share(vm: VM, name: str, operation: Operation) -> None:
    folders: dict[str, Any] = vm.configuration.setdefault("folders", {})
    folder = operation.value or operation.options.get("name", "")
    path = operation.options.get("path", "")
    if not folder:
        raise RefusedError(400, "error 400: the shared folder needs a name")
    if name not in ("add", "set", "delete"):
        raise RefusedError(400, f"error 400: Invalid operation shared-folder {name}")
    if name == "add" and not path:
        raise RefusedError(400, "error 400: the shared folder needs a path")
    if name == "add" and folder in folders:
        raise RefusedError(400, f"error 400: The shared folder name '{folder}' is already used")
    if name != "add" and folder not in folders:
        raise RefusedError(400, f"error 400: there is no shared folder {folder}")
    if unknown := set(operation.flags) - {"enable", "disable"}:
        raise RefusedError(400, f"error 400: unknown option --{min(unknown)}")
    if name == "delete":
        del folders[folder]
        return
    before = folders.get(folder, {"enabled": True, "path": "", "mode": "rw"})
    description = operation.options.get("shf-description", before.get("description", ""))
    folders[folder] = {
        "enabled": "disable" not in operation.flags if operation.flags else bool(before["enabled"]),
        "path": path or before["path"],
        "mode": operation.options.get("mode", before["mode"]),
        **({"description": description} if description else {}),
    }


def _plug(vm: VM, device: str, *, connected: bool) -> None:
    if not _DEVICE.fullmatch(device):
        raise RefusedError(400, f"error 400: there is no device {device}")
    unplugged = set(vm.configuration.get("unplugged", ()))
    unplugged = unplugged - {device} if connected else unplugged | {device}
    vm.configuration["unplugged"] = sorted(unplugged)


def shown(record: dict[str, Any], vm: VM) -> dict[str, Any]:
    """Return the record of a VM with what was changed of it."""
    record = copy.deepcopy(record)  # parts of it are the same object for all VMs
    for flag, value in vm.configuration.get("options", {}).items():
        if flag not in SHOWN:
            continue  # of a state file of another version
        *path, last = SHOWN[flag]
        part = record
        for key in path:
            part = part[key]
        part[last] = _as(part.get(last), value, flag)
    if folders := vm.configuration.get("folders"):
        record["Host Shared Folders"] = {"enabled": True, **folders}
    for device in vm.configuration.get("unplugged", ()):
        if device in record["Hardware"]:
            record["Hardware"][device]["state"] = "disconnected"
    return record


def _as(before: Any, value: str, flag: str) -> Any:
    """Return a value in the type that the record has there."""
    if isinstance(before, bool):
        return value == "on"
    if isinstance(before, int) and value.isdecimal():
        return int(value)
    return f"{value}Mb" if flag == "videosize" else value
