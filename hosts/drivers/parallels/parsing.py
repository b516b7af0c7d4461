"""From the host's JSON to the values of `base` (contract 2.3, 2.6, 2.7 and 8)."""

from __future__ import annotations

import math
import re
from dataclasses import replace
from email.utils import parsedate_to_datetime
from typing import Any

from hosts.drivers.base import (
    MACOS_GUEST_LIMIT,
    Architecture,
    CachedImage,
    CreateAnswer,
    ErrorKind,
    ExecuteResult,
    Hardware,
    HostError,
    HostJob,
    News,
    RemoteVM,
    Snapshot,
    VMStatus,
    VMType,
)

from .messages import Answer
from .reading import Node, WrongAnswer, nodes
from .scrub import scrub

_ARCHITECTURES: dict[str, Architecture] = {
    "arm64": "arm64",
    "aarch64": "arm64",
    "x86_64": "x86_64",
    "amd64": "x86_64",
}
_VM_TYPES: dict[str, VMType] = {"": "pvm", "VM": "pvm", "APPLE_VZ_VM": "macvm"}
_JOB_STATES = {"init", "pending", "running", "completed", "failed", "skipped"}
_MIB_PER_UNIT = {"k": 1 / 1024, "m": 1.0, "g": 1024.0, "t": 1024.0 * 1024}
_SIZE = re.compile(r"(\d{1,15}(?:\.\d{1,6})?)\s*([kmgt])i?b?", re.IGNORECASE)
_DISK = re.compile(r"hdd\d+")
_VERSION = re.compile(r"v?(\d{1,9})\.(\d{1,9})")
MAX_PATH = 1024  # bytes, of macOS
_OLDEST, _TOO_NEW = (0, 9), (2, 0)


def probe(document: Any, answer: Answer) -> float:
    """The latency in milliseconds, if this is the health probe of a DevOps API."""
    node = Node.of(document)
    if "status" not in node.values:
        raise HostError(
            ErrorKind.NOT_DEVOPS,
            "Something else than the DevOps API answers at this address. Check port and path.",
            status=answer.status,
        )
    if (status := node.text("status")) != "OK":
        raise WrongAnswer(f"the field status should be OK, not {scrub(status, limit=40)!r}")
    return answer.latency_ms


def token(document: Any, answer: Answer) -> tuple[str, float]:
    """The token and its remaining life in seconds, by the host's own clock where it shows it."""
    node = Node.of(document)
    value = node.text("token", limit=None)
    if not re.fullmatch(r"[\x21-\x7e]{1,16384}", value):
        raise WrongAnswer("the field token should be a token")
    offset = clock_offset(answer) or 0.0
    return value, node.number("expires_at") - (answer.received_at + offset)


def clock_offset(answer: Answer) -> float | None:
    """Host clock minus ours in seconds, from the Date header; None without one."""
    try:
        return parsedate_to_datetime(answer.date).timestamp() - answer.received_at
    except (ValueError, TypeError, OverflowError):
        return None


def hardware(document: Any, answer: Answer) -> Hardware:
    """The machine, without its `hardware_id`, which is asked for elsewhere."""
    node = Node.of(document)
    version = node.text("devops_version", "")
    _check_version(version)
    architecture = _ARCHITECTURES.get(node.text("cpu_type").strip().lower())
    if architecture is None:
        raise WrongAnswer("the field cpu_type should be arm64 or x86_64")
    reserved, total, available, in_use, set_aside = (
        node.child(name)
        for name in (
            "system_reserved",
            "total",
            "total_available",
            "total_in_use",
            "total_reserved",
        )
    )
    for item in (
        available,
        in_use,
        set_aside,
    ):  # not used further, but a host sends them right or not at all
        item.number("logical_cpu_count")
        item.number("memory_size")
    os_name = node.text("os_name", "")
    cache = node.child("cache_config", {})
    return Hardware(
        architecture=architecture,
        cpu_brand=node.text("cpu_brand", ""),
        total_cpus=total.count("logical_cpu_count"),
        reserved_cpus=reserved.count("logical_cpu_count"),
        total_memory_mib=_amount(total, "memory_size"),
        reserved_memory_mib=_amount(reserved, "memory_size"),
        total_disk_gib=_total_disk_mib(total, available) // 1024,
        reserved_disk_gib=_amount(reserved, "disk_count", 0) // 1024,
        free_disk_gib=_free_disk_mib(available) // 1024,
        macos_slots=MACOS_GUEST_LIMIT if architecture == "arm64" and _is_macos(os_name) else 0,
        devops_version=version,
        os_name=os_name,
        os_version=node.text("os_version", ""),
        desktop_version=node.text("parallels_desktop_version", ""),
        licensed=node.boolean("parallels_desktop_licensed", False),
        hardware_id="",
        modules=node.texts("enabled_modules"),
        cache_enabled=cache.boolean("enabled", False),
        shared_volume=None,  # the answer names the cache's folder but not the volume of the VMs
        clock_offset_seconds=clock_offset(answer),
    )


def _check_version(version: str) -> None:
    match = _VERSION.match(version)
    if match and _OLDEST <= (int(match[1]), int(match[2])) < _TOO_NEW:
        return
    seen = f"version {scrub(version, limit=40)}" if version else "no version"
    raise HostError(
        ErrorKind.UNSUPPORTED_VERSION,
        f"The host's DevOps service reports {seen}; versions 0.9 to 1.x are supported. "
        "Install a supported version on the host.",
    )


def _amount(item: Node, key: str, *default: Any) -> int:
    """Mebibytes (the host says MB and means MiB), rounded down."""
    value = math.floor(item.number(key, *default))
    if not 0 <= value < 2**31:
        raise WrongAnswer(f"the number in {item.at(key)} is out of range")
    return value


def _total_disk_mib(total: Node, available: Node) -> int:
    if available.values.get("prl_home_total_size") is not None:
        return _amount(available, "prl_home_total_size")
    # `total.disk_count` is what is used (contract 3.5)
    return _amount(total, "disk_count") + _amount(available, "disk_count")


def _free_disk_mib(available: Node) -> int:
    if available.values.get("prl_home_free_size") is not None:
        return _amount(available, "prl_home_free_size")
    return _amount(available, "disk_count")


def _is_macos(os_name: str) -> bool:
    return os_name.strip().lower().startswith(("mac", "darwin"))


def licence(document: Any, answer: Answer) -> str:
    """The identity of the machine: the uuid of its Parallels Desktop licence."""
    return Node.of(document).text("uuid", "")


def vms(document: Any, answer: Answer) -> tuple[RemoteVM, ...]:
    return tuple(_vm(node) for node in nodes(document, ""))


def vm(document: Any, answer: Answer) -> RemoteVM:
    return _vm(Node.of(document))


def _vm(node: Node) -> RemoteVM:
    """One entry as prlctl shows it; a broken VM has no hardware there, which counts as none."""
    machine = node.child("Hardware", {})
    disks = (machine.child(key) for key in machine.values if _DISK.fullmatch(key))
    vm_type = _VM_TYPES.get(node.text("Type", ""))
    if vm_type is None:
        raise WrongAnswer(f"the field {node.at('Type')} should be VM or APPLE_VZ_VM")
    return RemoteVM(
        id=node.identifier("ID"),
        name=node.text("Name"),
        state=node.text("State").lower(),
        type=vm_type,
        os=node.text("OS", ""),
        cpus=machine.child("cpu", {}).count("cpus", 0),
        memory_mib=_whole(
            machine.child("memory", {}), math.ceil(_size_mib(machine.child("memory", {})))
        ),
        disk_gib=_whole(machine, math.ceil(sum(_size_mib(disk) for disk in disks) / 1024)),
        ip_address=_address(node),
        user=node.text("user", ""),
        home=_home(node),
    )


def _home(node: Node) -> str:
    """The VM's folder; empty when it is told in no form that can be sent back as it is."""
    home = node.text("Home", "", limit=None)
    fits = home.startswith("/") and home == node.values["Home"]
    fits = fits and len(home.encode()) <= MAX_PATH
    return home.rstrip("/") if fits else ""


def _size_mib(node: Node) -> float:
    """The field `size`, such as `8192Mb`."""
    size = node.text("size", "")
    if not size:
        return 0.0
    match = _SIZE.fullmatch(size.strip())
    if not match:
        raise WrongAnswer(f"the field {node.at('size')} should be a size like 8192Mb")
    return float(match[1]) * _MIB_PER_UNIT[match[2].lower()]


def _whole(node: Node, value: int) -> int:
    if value >= 2**31:
        raise WrongAnswer(f"the size in {node.path} is out of range")
    return value


def _address(node: Node) -> str | None:
    reported = node.ip_address("internal_ip_address")
    found = [
        address
        for entry in node.child("Network", {}).children("ipAddresses")
        if (address := entry.ip_address("ip"))
    ]
    found.sort(key=lambda address: ":" in address)  # IPv4 first
    return reported or (found[0] if found else None)


def status(document: Any, answer: Answer) -> VMStatus:
    node = Node.of(document)
    return VMStatus(
        node.identifier("id"), node.text("status").lower(), node.ip_address("ip_configured")
    )


def job(document: Any, answer: Answer) -> HostJob:
    node = Node.of(document)
    state = node.text("state").lower()
    if state not in _JOB_STATES:
        raise WrongAnswer("the field state should be the state of a job")
    of_a_vm = node.text("result_record_type", "") in {"", "virtual_machine"}
    return HostJob(
        id=node.identifier("id"),
        state=state,
        progress=max(0, min(100, node.whole("progress", 0))),
        message=scrub(node.text("message", "", limit=2000)),
        error=scrub(node.text("error", "", limit=2000)),
        vm_id=(node.text("result_record_id", "") or None) if of_a_vm else None,
        vm_name=(node.text("result_record_name", "") or None) if of_a_vm else None,
    )


def images(document: Any, answer: Answer) -> tuple[CachedImage, ...]:
    return tuple(_image(node) for node in Node.of(document).children("manifests"))


def _image(node: Node) -> CachedImage:
    architecture = node.text("architecture", "").strip().lower()
    return CachedImage(
        catalog_id=node.identifier("catalog_id"),
        version=node.text("version"),
        architecture=_ARCHITECTURES.get(architecture, architecture),
        size_mib=_amount(node, "cache_size", 0),
        type=node.text("cache_type", ""),
        cached_at=node.moment("cache_date"),
        last_used_at=node.moment("cache_last_used"),
    )


def created_job(document: Any, answer: Answer) -> CreateAnswer:
    return CreateAnswer(host_job_id=Node.of(document).identifier("id"), vm_id=None)


def created_vm(document: Any, answer: Answer, name: str) -> CreateAnswer:
    """The new VM; a host may take `build-42` for the existing `build-421` and name that one."""
    node = Node.of(document)
    vm_id = node.identifier("id")
    if node.text("name", name) != name:
        raise WrongAnswer("it names another VM than the one asked for")
    return CreateAnswer(host_job_id=None, vm_id=vm_id)


def cloned(document: Any, answer: Answer) -> str:
    node = Node.of(document)
    _refuse_failure(node)
    return node.identifier("id")


def done(document: Any, answer: Answer) -> None:
    """The answer to a verb: empty, or with a status of Success."""
    if document is not None:
        _refuse_failure(Node.of(document))


def configured(document: Any, answer: Answer) -> None:
    for operation in Node.of(document).children("operations"):
        _refuse_failure(operation)


def _refuse_failure(node: Node) -> None:
    """Hosts answer 200 to some failures and say so inside."""
    reason = node.values.get("error")
    reason = scrub(reason) if isinstance(reason, str) else "no reason given" if reason else ""
    failed = not node.boolean("success", True) or node.text("status", "Success").lower() not in {
        "",
        "success",
    }
    if reason or failed:
        raise HostError(
            ErrorKind.REJECTED,
            f"The host did not do it: {reason or node.text('status', '') or 'no reason given'}. "
            "See the log of the host's DevOps service.",
        )


def executed(document: Any, answer: Answer) -> ExecuteResult:
    node = Node.of(document)
    stderr = node.text("stderr", "", limit=None) or node.text("error", "", limit=None)
    return ExecuteResult(node.whole("exit_code"), node.text("stdout", "", limit=None), stderr)


def news_of(document: Any, answer: Answer) -> News | None:
    """What an event hints at; None for one that is of no interest."""
    node = Node.of(document)
    message = node.text("message", "", limit=None)
    match node.text("event_type", ""), message:
        case "pdfm", "VM_STATE_CHANGED" | "VM_ADDED" | "VM_UPDATED" | "VM_REMOVED":
            return News(True, vm_ids=frozenset({node.child("body").identifier("vm_id")}))
        case "job_manager", "JOB_UPDATED" | "JOB_COMPLETED":
            return News(job_ids=frozenset({node.child("body").identifier("id")}))
        case "catalog_cache", "CACHE_ITEM_ADDED" | "CACHE_ITEM_REMOVED":
            return News(True)
    return None


def uploaded(document: Any, answer: Answer) -> None:
    _refuse_failure(Node.of(document))


def anything(document: Any, answer: Answer) -> None:
    """An answer that says only that it was done."""


def snapshots(document: Any, answer: Answer) -> tuple[Snapshot, ...]:
    """All snapshots, each after its parent."""
    left = [_snapshot(node) for node in Node.of(document).children("snapshots")]
    known = {one.id for one in left}
    left = [one if one.parent in known else replace(one, parent="") for one in left]
    ordered: dict[str, Snapshot] = {}
    while left:
        ready = [one for one in left if not one.parent or one.parent in ordered]
        if not ready:
            raise WrongAnswer("the parents of the snapshots go round in a circle")
        ordered |= {one.id: one for one in ready}
        left = [one for one in left if one.id not in ordered]
    return tuple(ordered.values())


def _snapshot(node: Node) -> Snapshot:
    return Snapshot(
        id=node.identifier("id"),
        name=node.text("name", ""),
        parent=node.text("parent", ""),
        taken_at=node.text("date", ""),
        with_memory=node.text("state", "").lower() in {"poweron", "pause"},
        current=node.boolean("current", False),
    )


def taken_snapshot(document: Any, answer: Answer) -> str:
    return Node.of(document).identifier("snapshot_id")
