"""Which operations of `PUT …/set` are carried out, and which are refused with a sentence."""

from __future__ import annotations

from typing import Any

import pytest

from compat.machines.operations import Operations, read_operations
from compat.wire.bodies import Body
from compat.wire.errors import NotOffered
from orchestrator.refusals import Invalid
from vms.configuration import FolderWish, Wish, check


def row(group: str, operation: str, value: str = "", **more: Any) -> dict[str, Any]:
    """Return an operation in the form in which Terraform sends it."""
    options = [{"flag": flag, "value": text} for flag, text in more.get("options", {}).items()]
    return {
        "owner": "ci",
        "group": group,
        "operation": operation,
        "value": value,
        "options": options,
        "flags": more.get("flags", []),
        "error": None,
    }


def read(*rows: dict[str, Any]) -> Operations:
    found = read_operations(Body({"owner": "ci", "operations": list(rows)}))
    check(found.wish)
    return found


@pytest.mark.parametrize(
    ("operation", "options"),
    [
        (row("cmd", "set", options={"startup-view": "headless"}), {"startup-view": "headless"}),
        (row("cmd", "set", options={"--Pause-Idle": "true"}), {"pause-idle": "on"}),
        (row("rosetta", "set", "true"), {"rosetta-linux": "on"}),
        (row("cpu", "set_type", "arm"), {"cpu-type": "arm"}),
        (row("boot-order", "boot-order", "hdd0 net0"), {"device-bootorder": "hdd0 net0"}),
        (row("boot-order", "set", "hdd0"), {"device-bootorder": "hdd0"}),
        (row("efi-secure-boot", "efi-secure-boot", "false"), {"efi-secure-boot": "off"}),
        (row("select-boot-device", "set", "on"), {"select-boot-device": "on"}),
        (row("time", "time-sync", "off"), {"time-sync": "off"}),
        (row("time", "time-sync-interval", "60"), {"time-sync-interval": "60"}),
        (row("time", "disable-timezone-synct", "on"), {"disable-timezone-sync": "on"}),
    ],
)
def test_options(operation: dict[str, Any], options: dict[str, str]) -> None:
    assert read(operation).wish == Wish(options=options)


def test_sizes_state_and_the_rest() -> None:
    found = read(row("cpu", "set", "6"), row("memory", "set", "12288"))
    assert found.size == {"cpus": 6, "memory_mib": 12288}
    found = read(
        row("cmd", "set", options={"cpus": "6", "memsize": "512"}),
        row("device", "set", "hdd0", options={"size": "65537"}),
    )
    assert found.size == {"cpus": 6, "memory_mib": 512, "disk_gib": 65}
    found = read(row("device", "disconnect", "net0"), row("machine", "install-tools"))
    assert found.wish == Wish(devices={"net0": False}, actions=["install-tools"])
    killed = read(row("cmd", "stop", flags=["--kill"]))
    assert (killed.verb, killed.force) == ("stop", True)
    assert read(row("cmd", "suspend")).verb == "suspend"
    nothing = read(row("network", "set", "x"))
    assert not nothing.wish
    assert not nothing.size


def test_shared_folders() -> None:
    path = {"path": "/Users/ci/src"}
    golden = row("shared-folder", "add", options={"name": "src", **path})  # contract 8.24
    wish = FolderWish("/Users/ci/src", writable=True, enabled=True)
    assert read(golden).wish.folders == {"src": wish}
    terraform = {**path, "mode": "ro", "shf-description": "Sources"}
    added = row("shared-folder", "add", "src", options=terraform, flags=["disable"])
    wish = FolderWish("/Users/ci/src", writable=False, enabled=False, description="Sources")
    assert read(added).wish.folders == {"src": wish}
    changed = row("shared-folder", "set", "src", options={"mode": "rw"}, flags=["enabled"])
    assert read(changed).wish.folders == {"src": FolderWish(writable=True, enabled=True)}
    assert read(row("shared-folder", "set", "src")).wish.folders == {"src": FolderWish()}
    assert read(row("shared-folder", "delete", "src")).wish.folders == {"src": None}


@pytest.mark.parametrize(
    ("operation", "said"),
    [
        (row("cmd", "exec", options={"command": "id"}), "cmd exec"),
        (row("cmd", "create", flags=["x"]), "cmd create"),
        (row("cmd", "delete"), "cmd delete"),
        (row("cmd", "set", options={"shf-host-add": "x"}), "--shf-host-add"),
        (row("cmd", "set", options={"device-set": "cdrom0"}), "group device"),
        (row("cmd", "set", options={"name": "x"}), "machine rename"),
        (row("cmd", "set", options={"sync-ssh-ids": "on"}), "user's data"),
        (row("cmd", "set", options={"userpasswd": "a:b"}), "--userpasswd"),
        (row("cmd", "set", flags=["template"]), "--template"),
        (row("cmd", "set", options={"pause-idle": "on"}, flags=["x"]), "--x"),
        (row("machine", "encrypt"), "password"),
        (row("machine", "archive"), "archived"),
        (row("boot-order", "bios-type", "legacy"), "BIOS"),
        (row("external-boot-device", "external-boot-device", "x"), "devices of its host"),
        (row("device", "add", "hdd"), "opens a file"),
        (row("device", "remove", "net0"), "disconnected"),
        (row("device", "set", "cdrom0", options={"image": "/etc/passwd"}), "size of hdd0"),
        (row("device", "set", "hdd0", options={"size": "1", "image": "/x"}), "size of hdd0"),
        (row("shared-folder", "add", "a", options={"path": "/a", "x": "y"}), "--x"),
        (row("shared-folder", "list"), "shared-folder list"),
        (row("no-group", "set"), "no-group set"),
    ],
)
def test_what_is_not_offered_says_what_and_why(operation: dict[str, Any], said: str) -> None:
    with pytest.raises(NotOffered, match="not offered") as refused:
        read(row("cpu", "set", "6"), operation)
    assert said in refused.value.message


@pytest.mark.parametrize(
    "rows",
    [
        (),
        (row("cpu", "set"),),
        (row("cpu", "set", "auto"),),
        (row("cmd", "set"),),
        (row("cmd", "set", options={"cpus": "-1"}),),
        (row("cmd", "set", options={"cpus": "٣"}),),
        (row("cmd", "set", options={"startup-view": "$(id)"}),),
        (row("cmd", "set", flags=["pause-idle"]),),
        (row("device", "set", "hdd0", options={"size": "all"}),),
        (row("device", "connect", "cdrom0"),),
        (row("device", "connect", "hdd0; id"),),
        (row("shared-folder", "add", "src"),),
        (row("shared-folder", "add", options={"path": "/a"}),),
        (row("shared-folder", "add", "src", options={"path": "/a", "mode": "x"}),),
        (row("shared-folder", "add", "--path", options={"path": "/a"}),),
        (row("boot-order", "set", "hdd0 --force"),),
        (row("machine", "rename"),),
        (row("network", "set"),) * 51,
        (row("state", "start"), row("cpu", "set", "2")),
        (row("state", "start"), row("state", "stop")),
        (row("machine", "clone", "x"), row("rosetta", "set", "on")),
    ],
)
def test_what_makes_no_sense_is_refused(rows: tuple[dict[str, Any], ...]) -> None:
    with pytest.raises(Invalid):
        read(*rows)
