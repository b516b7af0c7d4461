"""What may be set of a VM beside its size, state and name, and by whom.

Options and devices are an allow list (`hosts.drivers.options`): none of them reaches the host's
files or other VMs. A shared folder shows the guest a folder of the host, so it takes the right to
manage hosts, or a path below one of `SHARED_FOLDER_PATHS`.
"""

from __future__ import annotations

import posixpath
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any

from django.conf import settings

from hosts.drivers import options
from hosts.drivers.base import Configuration, SharedFolder
from orchestrator.refusals import Forbidden, Invalid

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from accounts.actors import Actor
    from vms.models import VirtualMachine

OPTIONS = options.OPTIONS
ACTIONS = options.ACTIONS
LONGEST_PATH = 1024
MOST = 50  # options, folders or devices in one request
NEEDS_RIGHT = (
    "A shared folder shows the VM a folder of its host. That takes the right to manage hosts, or a "
    "path below one that the operators allow (SHARED_FOLDER_PATHS)."
)


@dataclass(frozen=True)
class FolderWish:
    """How a shared folder is to be; what is None stays, or is as hosts have it by default."""

    path: str | None = None
    writable: bool | None = None
    enabled: bool | None = None
    description: str | None = None


@dataclass
class Wish:
    """What is to change of a VM's configuration. A folder that is None is not shared any more."""

    options: dict[str, str] = field(default_factory=dict)
    folders: dict[str, FolderWish | None] = field(default_factory=dict)
    devices: dict[str, bool] = field(default_factory=dict)
    actions: list[str] = field(default_factory=list)

    def __bool__(self) -> bool:
        return bool(self.options or self.folders or self.devices or self.actions)

    @property
    def needs_stopped(self) -> bool:
        return any(OPTIONS[name].needs_stopped for name in self.options)


def check(wish: Wish) -> None:
    """Raise `Invalid` for an option, device or action that there is not, or a wrong value."""
    for name, values in (("options", wish.options), ("folders", wish.folders)):
        if len(values) > MOST:
            raise Invalid.field(name, f"Give at most {MOST}.")
    for name, value in wish.options.items():
        if name not in OPTIONS:
            raise Invalid.field(
                "options", f"{name} cannot be set. Choose of: {', '.join(OPTIONS)}."
            )
        if not OPTIONS[name].takes(value):
            raise Invalid.field("options", f"{name} takes {OPTIONS[name].hint}.")
    for name, connected in wish.devices.items():
        allowed = options.CONNECTABLE if connected else options.DISCONNECTABLE
        if not allowed.fullmatch(name):
            raise Invalid.field(
                "devices",
                f"{name} cannot be {'connected' if connected else 'disconnected'}. net and sound "
                "can be both, cdrom and fdd only disconnected: they hold a file of the host.",
            )
    for name in wish.actions:
        if name not in ACTIONS:
            raise Invalid.field("actions", f"Choose of: {', '.join(sorted(ACTIONS))}.")
    for name, folder in wish.folders.items():
        if not options.FOLDER_NAME.fullmatch(name):
            raise Invalid.field("folders", f"{name!r} is no name of a shared folder.")
        if folder and not options.TEXT.fullmatch(folder.description or ""):
            raise Invalid.field("folders", f"The description takes {OPTIONS['description'].hint}.")


def wanted_folders(
    actor: Actor, vm: VirtualMachine, wish: Wish
) -> dict[str, dict[str, Any] | None]:
    """Return the shared folders whole, as the host is to have them; None for what goes.

    What is only taken away, or switched off, takes no right but that over the VM. The path is sent
    each time, so that nobody switches on a folder that is another one by now. Raises `Invalid` for
    a path that cannot be, `Forbidden` for one that the actor may not share.
    """
    known: dict[str, Any] = vm.configuration.get("folders", {})
    found: dict[str, dict[str, Any] | None] = {}
    for name, folder in wish.folders.items():
        if folder is None:
            found[name] = None
            continue
        given = {key: value for key, value in asdict(folder).items() if value is not None}
        before = known.get(name, {})
        whole = asdict(SharedFolder(path="")) | before | given
        _check_path(whole["path"])
        switched_off = whole == {**before, "enabled": False}
        if not (switched_off or _is_allowed(whole["path"]) or actor.can("hosts.manage")):
            raise Forbidden(NEEDS_RIGHT, code="path_not_allowed")
        found[name] = whole
    return found


def _check_path(path: str) -> None:
    if not path:
        raise Invalid.field("folders", "Give the path of the shared folder on the host.")
    plain = options.FOLDER_PATH.fullmatch(path) and posixpath.normpath(path) == path
    if not plain or len(path) > LONGEST_PATH:
        raise Invalid.field(
            "folders",
            "Give a whole path without “..” or a slash at its end, of letters, digits, spaces and "
            ". , : @ + = - _.",
        )


def _is_allowed(path: str) -> bool:
    """Return whether anybody may share it. Links on the host's disk are the operators' business."""
    allowed = (posixpath.normpath(one) for one in settings.SHARED_FOLDER_PATHS)
    return any(path == one or path.startswith(f"{one.rstrip('/')}/") for one in allowed)


def stored(seen: Configuration, sent: Mapping[str, str]) -> dict[str, Any]:
    """Return what is kept of a VM's configuration: what its host shows, else what it was sent."""
    return {
        "options": {**sent, **seen.options},
        "folders": {name: asdict(folder) for name, folder in seen.folders.items()},
        "devices": dict(seen.devices),
    }


def shown_options(vm: VirtualMachine) -> Iterator[tuple[tuple[str, ...], str]]:
    """Yield where a host's record of the VM shows its options, and their values."""
    for name, value in vm.configuration.get("options", {}).items():
        if option := OPTIONS.get(name):
            yield option.shown, value
