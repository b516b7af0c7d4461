"""What a VirtualMachineConfigRequest asks for, in the words of our rooms.

`cmd` runs any command of the host's `prlctl` in the original. Here its `set` takes the flags of an
allow list, and a few of its verbs are the ones that there are anyway; nothing else is passed on.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from compat.machines.verbs import STATE_VERBS
from compat.wire.errors import NotOffered
from orchestrator.refusals import Invalid
from vms.configuration import ACTIONS, MOST, OPTIONS, FolderWish, Wish

if TYPE_CHECKING:
    from compat.wire.bodies import Body

_SIZES = {"cpus": "cpus", "memsize": "memory_mib"}  # flags of `prlctl set` that are a size
_SWITCH = {"true": "on", "false": "off"}
# Groups of one option, or of few: operations, and the option that each is.
_BOOT = {
    "boot-order": "device-bootorder",
    "efi-secure-boot": "efi-secure-boot",
    "select-boot-device": "select-boot-device",
}
_TIME = {
    "time-sync": "time-sync",
    "time-sync-smart-mode": "time-sync-smart-mode",
    "time-sync-interval": "time-sync-interval",
    "disable-timezone-sync": "disable-timezone-sync",
    "disable-timezone-synct": "disable-timezone-sync",  # as hosts spell it
}
_SEE = "docs/parallels-compatibility.md lists what is offered."
_NOT_OFFERED = "The operation {} is not offered. " + _SEE
_WHY_NOT = {
    ("boot-order", "bios-type"): "The BIOS type of a VM stays that of its image.",
    ("external-boot-device", ""): "A VM does not boot from devices of its host.",
    ("machine", "archive"): "An archived VM could not be started again from here.",
    ("machine", "unarchive"): "VMs are not archived here.",
    ("machine", "pack"): "A packed VM could not be started again from here.",
    ("machine", "unpack"): "VMs are not packed here.",
    ("machine", "encrypt"): "An encrypted VM asks for its password on its host's screen.",
    ("machine", "decrypt"): "A decryption asks for the password on the host's screen.",
    ("device", "add"): "A device opens a file or a device of the host, or takes room on its disk.",
    ("device", "remove"): "The devices of a VM are those of its image. They can be disconnected.",
}
_FLAG_NOT_OFFERED = "The flag --{} of prlctl set is not offered: {} " + _SEE
_NOT_LISTED = (
    "it is not among those that cannot reach the host's files, its user's data or other VMs."
)


@dataclass
class Operations:
    """What a request asks for: a new size and configuration, or one other thing."""

    named: list[tuple[str, str]] = field(default_factory=list)  # groups and operations, as sent
    size: dict[str, int] = field(default_factory=dict)
    wish: Wish = field(default_factory=Wish)
    verb: str = ""
    value: str = ""
    force: bool = False


@dataclass(frozen=True)
class _Row:
    group: str
    name: str
    value: str
    options: dict[str, str]
    flags: list[str]
    body: Body


def read_operations(body: Body) -> Operations:
    """Return the operations of a request. Raises `Invalid`, `NotOffered`."""
    found = Operations()
    rows = body.rows("operations")
    if len(rows) > MOST:
        raise Invalid(f"Invalid request body: send at most {MOST} operations in a request.")
    for part in rows:
        row = _Row(
            group=part.text("group", needed=True).lower(),
            name=part.text("operation", needed=True).lower(),
            value=part.text("value"),
            options={_flag(one.text("flag")): one.text("value") for one in part.rows("options")},
            flags=[_flag(flag) for flag in part.texts("flags")],
            body=part,
        )
        found.named.append((row.group, row.name))
        _take(found, row)
    if not found.named:
        raise Invalid("Invalid request body: operations cannot be empty")
    if found.verb and (found.size or found.wish):
        raise Invalid(
            "Send a new size or configuration and other operations in requests of their own."
        )
    return found


def _flag(text: str) -> str:
    return text.strip().lstrip("-").lower()


def _take(found: Operations, row: _Row) -> None:
    match row.group, row.name:
        case "cpu", "set":
            found.size["cpus"] = _whole(row.body)
        case "cpu", "set_type":
            found.wish.options["cpu-type"] = row.value
        case "memory", "set":
            found.size["memory_mib"] = _whole(row.body)
        case "state", verb if verb in STATE_VERBS:
            _one(found, verb)
        case "machine", "clone" | "rename":
            _one(found, row.name)
            found.value = row.value or row.options.get("name", "")
            if not found.value:
                raise Invalid(f"Invalid request body: {row.name} needs a name as its value.")
        case "machine" | "cmd", action if action in ACTIONS:
            found.wish.actions.append(action)
        case "rosetta", "set":
            found.wish.options["rosetta-linux"] = _switched(row.value)
        case ("boot-order" | "efi-secure-boot" | "select-boot-device") as group, name if (
            name in _BOOT or name == "set"
        ):
            found.wish.options[_BOOT[group if name == "set" else name]] = _switched(row.value)
        case "time", name if name in _TIME:
            found.wish.options[_TIME[name]] = _switched(row.value)
        case "device", name:
            _take_device(found, row, name)
        case "shared-folder", "add" | "set" | "delete":
            _take_folder(found, row)
        case "cmd", "set":
            _take_flags(found, row)
        case "cmd", verb if verb in STATE_VERBS:
            _one(found, verb)
            found.force = "kill" in row.flags
        case "network", _:
            pass  # the original has no effect for it either
        case group, name:
            why = _WHY_NOT.get((group, name)) or _WHY_NOT.get((group, "")) or ""
            raise NotOffered(_NOT_OFFERED.format(f"{group} {name}") + (f" {why}" if why else ""))


def _take_device(found: Operations, row: _Row, name: str) -> None:
    if name in ("connect", "disconnect"):
        found.wish.devices[row.value] = name == "connect"
        return
    mib = row.options.get("size", "")
    if name == "set" and row.value == "hdd0" and row.options.keys() == {"size"} and not row.flags:
        if not (mib.isascii() and mib.isdecimal()) or len(mib) > 12:
            raise Invalid("Invalid request body: size must be a whole number of MB.")
        found.size["disk_gib"] = -(-int(mib) // 1024)
        return
    why = _WHY_NOT.get(("device", name), "Of a device only the size of hdd0 can be set.")
    raise NotOffered(f"{_NOT_OFFERED.format(f'device {name}')} {why}")


def _take_folder(found: Operations, row: _Row) -> None:
    name = row.value or row.options.get("name", "")
    if not name:
        raise Invalid("Invalid request body: the shared folder needs a name as its value.")
    if row.name == "delete":
        found.wish.folders[name] = None
        return
    known = {"name", "path", "mode", "shf-description", "description"}
    flags = {"enable": True, "enabled": True, "disable": False, "disabled": False}
    if unknown := sorted((row.options.keys() - known) | (set(row.flags) - flags.keys())):
        raise NotOffered(_FLAG_NOT_OFFERED.format(unknown[0], _NOT_LISTED))
    mode = row.options.get("mode", "").lower()
    if mode not in ("", "ro", "rw"):
        raise Invalid("Invalid request body: mode must be ro or rw.")
    if row.name == "add" and not row.options.get("path"):
        raise Invalid("Invalid request body: the shared folder needs a path.")
    enabled = flags[row.flags[-1]] if row.flags else None
    found.wish.folders[name] = FolderWish(
        path=row.options.get("path") or None,
        # As hosts do: what is added without a word can be written and is there at once.
        writable=mode == "rw" if mode else (True if row.name == "add" else None),
        enabled=True if enabled is None and row.name == "add" else enabled,
        description=row.options.get("shf-description", row.options.get("description")),
    )


def _take_flags(found: Operations, row: _Row) -> None:
    """Take a `prlctl set`: flags with their values; one without a value is none of ours."""
    for flag, value in {**row.options, **dict.fromkeys(row.flags, "")}.items():
        if flag in _SIZES:
            if not (value.isascii() and value.isdecimal()) or len(value) > 9:
                raise Invalid(f"Invalid request body: {flag} must be a whole number.")
            found.size[_SIZES[flag]] = int(value)
        elif flag in OPTIONS:
            found.wish.options[flag] = _switched(value)
        else:
            raise NotOffered(_FLAG_NOT_OFFERED.format(flag[:60], _why_not_flag(flag)))
    if not (row.options or row.flags):
        raise Invalid("Invalid request body: cmd set needs options.")


def _why_not_flag(flag: str) -> str:
    if flag == "name":
        return "use machine rename."
    if flag.startswith("shf-"):
        return "use the group shared-folder."
    if flag.startswith("device-"):
        return "use the group device."
    return _NOT_LISTED


def _switched(value: str) -> str:
    """Return a value in the words of prlctl: clients send true for on."""
    return _SWITCH.get(value.lower(), value)


def _one(found: Operations, verb: str) -> None:
    if found.verb:
        raise Invalid("Send one operation on the machine's state or name in a request.")
    found.verb = verb


def _whole(row: Body) -> int:
    number = row.number("value")
    if number is None:
        raise Invalid("Invalid request body: value cannot be empty")
    return number
