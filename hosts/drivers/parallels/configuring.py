"""The call that changes a VM's configuration (contract 2.3, 8.24), and reading it back."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

from hosts.drivers.base import Changes, Configuration, Limits, SharedFolder
from hosts.drivers.options import OPTIONS

from . import parsing
from .calls import Call, join
from .messages import Answer
from .reading import Node, clean

_SWITCHES = {True: "on", False: "off", "yes": "on", "no": "off"}
_DEVICE = re.compile(r"(?:net|sound|cdrom|fdd)\d{1,2}", re.ASCII)
_LONGEST_PATH = 1024


def configuration(vm_id: str, limits: Limits) -> Call[Configuration]:
    path = join("machines", vm_id)
    return Call("read the VM", "GET", path, limits.read_seconds, _configuration)


def change(vm_id: str, changes: Changes, limits: Limits) -> Call[None]:
    return Call(
        "change the configuration of the VM",
        "PUT",
        join("machines", vm_id, "set"),
        limits.state_seconds,
        parsing.configured,
        body={"operations": list(_operations(changes))},
        changes_state=True,
    )


def _operations(changes: Changes) -> Iterator[dict[str, Any]]:
    flags = []
    for name, value in changes.options.items():
        group, operation = OPTIONS[name].operation
        if group == "cmd":
            flags.append({"flag": name, "value": value})
        else:
            yield {"group": group, "operation": operation, "value": value}
    if flags:
        yield {"group": "cmd", "operation": "set", "options": flags}
    for name in changes.removed_folders:
        yield {"group": "shared-folder", "operation": "delete", "value": name}
    for name, folder in changes.added_folders.items():
        yield _folder("add", name, folder)
    for name, folder in changes.changed_folders.items():
        yield _folder("set", name, folder)
    for name, connected in changes.devices.items():
        operation = "connect" if connected else "disconnect"
        yield {"group": "device", "operation": operation, "value": name}
    for name in changes.actions:
        yield {"group": "machine", "operation": name}


def _folder(operation: str, name: str, folder: SharedFolder) -> dict[str, Any]:
    options = {"path": folder.path, "mode": "rw" if folder.writable else "ro"}
    if folder.description:
        options["shf-description"] = folder.description
    return {
        "group": "shared-folder",
        "operation": operation,
        "value": name,
        "options": [{"flag": flag, "value": value} for flag, value in options.items()],
        "flags": ["enable" if folder.enabled else "disable"],
    }


def _configuration(document: Any, answer: Answer) -> Configuration:
    node = Node.of(document)
    options = {
        name: value
        for name, option in OPTIONS.items()
        if (value := _shown(node.values, option.shown)) is not None
    }
    if size := options.get("videosize"):
        options["videosize"] = size.removesuffix("Mb")
    hardware = node.child("Hardware", {})
    devices = {
        name: hardware.child(name).text("state", "connected") != "disconnected"
        for name in hardware.values
        if _DEVICE.fullmatch(name)
    }
    return Configuration(options, dict(_folders(node.child("Host Shared Folders", {}))), devices)


def _shown(record: Any, path: tuple[str, ...]) -> str | None:
    """Return a value of the record in prlctl's words; None where the host shows none."""
    for key in path:
        if not isinstance(record, dict):
            return None
        record = record.get(key)
    if isinstance(record, bool) or record in ("yes", "no"):
        return _SWITCHES[record]
    if isinstance(record, int):
        return str(record)
    return " ".join(clean(record).split())[:255] if isinstance(record, str) else None


def _folders(node: Node) -> Iterator[tuple[str, SharedFolder]]:
    for name, value in node.values.items():
        if isinstance(value, dict):  # beside them stands whether sharing is on at all
            one = Node.of(value, node.at(name))
            yield (
                clean(name)[:255],
                SharedFolder(
                    path=one.text("path", "", limit=_LONGEST_PATH),
                    writable=one.text("mode", "rw") != "ro",
                    enabled=one.boolean("enabled", True),
                    description=one.text("description", ""),
                ),
            )
