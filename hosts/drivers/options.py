"""What of a VM's configuration may be changed by name: the flags of `prlctl set` that are safe.

An allow list. None of these reads or writes the host's files, reaches another VM, runs a command,
asks for a password or hands the guest something of the host's user. Size, name, devices and shared
folders have calls of their own.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass

SWITCH = frozenset({"on", "off"})
_DEVICE = r"(?:hdd|cdrom|fdd|net|usb|sound)\d{0,2}"
_TEXT = re.compile(r"(?!-)[\w .,:@+/=-]{0,200}", re.ASCII)  # nothing that a shell would look at


@dataclass(frozen=True)
class Option:
    """One flag: where a VM's record shows it, which values it takes, and who carries it out.

    `operation` is the group and operation of the contract's `set` that does it. Hosts do `cmd`,
    `cpu` and `rosetta` for a stopped VM only.
    """

    shown: tuple[str, ...]
    takes: Callable[[str], bool]
    hint: str
    operation: tuple[str, str] = ("cmd", "set")
    words: tuple[str, ...] = ()  # all values, where there are few

    @property
    def needs_stopped(self) -> bool:
        return self.operation[0] in {"cmd", "cpu", "rosetta"}


def _words(
    *shown: str, of: frozenset[str] = SWITCH, by: tuple[str, str] = ("cmd", "set")
) -> Option:
    words = tuple(sorted(of, reverse=of == SWITCH))
    return Option(shown, of.__contains__, " or ".join(words), by, words)


def _whole(*shown: str, longest: int, by: tuple[str, str] = ("cmd", "set")) -> Option:
    def takes(value: str) -> bool:
        return value.isascii() and value.isdecimal() and int(value[:9]) <= longest < 10**9

    return Option(shown, takes, f"a whole number of at most {longest}", by)


def _matching(*shown: str, pattern: re.Pattern[str], hint: str, by: tuple[str, str]) -> Option:
    return Option(shown, lambda value: pattern.fullmatch(value) is not None, hint, by)


_STARTUP, _SPEED = "Startup and Shutdown", "Optimization"
_TIME, _ADVANCED = "Time Synchronization", "Advanced"
OPTIONS: dict[str, Option] = {
    "description": _matching(
        "Description",
        pattern=_TEXT,
        hint="at most 200 letters, digits, spaces and . , : @ + / = - _, no dash first",
        by=("cmd", "set"),
    ),
    "startup-view": _words(
        _STARTUP,
        "Startup view",
        of=frozenset({"same", "window", "coherence", "fullscreen", "modality", "headless"}),
    ),
    "autostart": _words(
        _STARTUP,
        "Autostart",
        of=frozenset({"off", "start-host", "start-app", "open-window", "user-login"}),
    ),
    "autostart-delay": _whole(_STARTUP, "Autostart delay", longest=86_400),
    "autostop": _words(_STARTUP, "Autostop", of=frozenset({"stop", "suspend", "shutdown"})),
    "on-shutdown": _words(_STARTUP, "On shutdown", of=frozenset({"window", "close", "quit"})),
    "on-window-close": _words(
        _STARTUP,
        "On window close",
        of=frozenset({"suspend", "shutdown", "stop", "ask", "keep-running"}),
    ),
    "pause-idle": _words(_STARTUP, "Pause idle"),
    "faster-vm": _words(_SPEED, "Faster virtual machine"),
    "hypervisor-type": _words(_SPEED, "Hypervisor type", of=frozenset({"parallels", "apple"})),
    "adaptive-hypervisor": _words(_SPEED, "Adaptive hypervisor"),
    "disable-win-logo": _words(_SPEED, "Disabled Windows logo"),
    "auto-compress": _words(_SPEED, "Auto compress virtual disks"),
    "nested-virt": _words(_SPEED, "Nested virtualization"),
    "pmu-virt": _words(_SPEED, "PMU virtualization"),
    "longer-battery-life": _words(_SPEED, "Longer battery life"),
    "battery-status": _words(_SPEED, "Show battery status"),
    "resource-quota": _words(
        _SPEED, "Resource quota", of=frozenset({"low", "medium", "unlimited"})
    ),
    "cpu-type": _words(
        "Hardware", "cpu", "type", of=frozenset({"x86", "arm"}), by=("cpu", "set_type")
    ),
    "videosize": _whole("Hardware", "video", "size", longest=8192),
    "3d-accelerate": _words(
        "Hardware", "video", "3d-acceleration", of=frozenset({"off", "highest"})
    ),
    "vertical-sync": _words("Hardware", "video", "vertical-sync"),
    "high-resolution": _words("Hardware", "video", "high-resolution"),
    "device-bootorder": _matching(
        "Boot order",
        pattern=re.compile(rf"{_DEVICE}(?: {_DEVICE}){{0,9}}", re.ASCII),
        hint="names of devices with spaces between, as “hdd0 cdrom0 net0”",
        by=("boot-order", "boot-order"),
    ),
    "efi-secure-boot": _words("EFI Secure boot", by=("efi-secure-boot", "efi-secure-boot")),
    "select-boot-device": _words(
        "Allow select boot device", by=("select-boot-device", "select-boot-device")
    ),
    "time-sync": _words(_TIME, "enabled", by=("time", "time-sync")),
    "time-sync-smart-mode": _words(_TIME, "Smart mode", by=("time", "time-sync-smart-mode")),
    "time-sync-interval": _whole(
        _TIME, "Interval (in seconds)", longest=86_400, by=("time", "time-sync-interval")
    ),
    # Hosts spell this operation so.
    "disable-timezone-sync": _words(
        _TIME, "Timezone synchronization disabled", by=("time", "disable-timezone-synct")
    ),
    "rosetta-linux": _words(_ADVANCED, "Rosetta Linux", by=("rosetta", "set")),
    "sync-vm-hostname": _words(_ADVANCED, "VM hostname synchronization"),
    "show-dev-tools": _words(_ADVANCED, "Show developer tools"),
    "swipe-from-edges": _words(_ADVANCED, "Swipe from edges"),
}

# Devices that may be plugged in again. Others hold a file or a device of the host.
CONNECTABLE = re.compile(r"(?:net|sound)\d{1,2}", re.ASCII)
DISCONNECTABLE = re.compile(r"(?:net|sound|cdrom|fdd)\d{1,2}", re.ASCII)
ACTIONS = frozenset({"reset-uptime", "install-tools"})
FOLDER_NAME = re.compile(r"[A-Za-z0-9](?:[A-Za-z0-9 ._-]{0,62}[A-Za-z0-9])?")
FOLDER_PATH = re.compile(r"(?:/[\w .,:@+=-]+)+", re.ASCII)
TEXT = _TEXT
