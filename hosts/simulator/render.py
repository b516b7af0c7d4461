"""Hosts, VMs and jobs as the JSON of the contract; rendered when asked for, never stored."""

from __future__ import annotations

import time
from hashlib import blake2b
from typing import Any

from hosts.simulator import configuring
from hosts.simulator.wire import rfc3339
from hosts.simulator.world import (
    APPLE_VM,
    RESERVED_CPUS,
    RESERVED_DISK_GIB,
    RESERVED_MEMORY_MIB,
    VM,
    Host,
    Job,
    Snapshot,
)

DEVOPS_VERSION = "1.0.5"
DESKTOP_VERSION = "20.4.0"
CACHE_FOLDER = "/Users/parallels/.prldevops/cache"
ZERO_TIME = "0001-01-01T00:00:00Z"
"""How the original prints a time that was never set."""

PULL_STAGES = (
    ("pull_validate_stage", "Validating Requirements", 5),
    ("pull_check_cache_stage", "Checking Cache", 5),
    ("downloader", "Downloading Pack File", 20),
    ("decompressor", "Decompressing Pack File", 20),
    ("pull_cache_stage", "Caching", 20),
    ("pull_register_stage", "Registering", 10),
    ("pull_rename_stage", "Renaming", 10),
    ("pull_start_stage", "Starting", 5),
    ("cleaning_up", "Cleaning Up", 5),
)
_BEFORE_START = 90
_START = 5
_TRANSFERS = ("downloader", "decompressor")

_NETWORK_LIMIT = {"Bandwidth": "", "Packet Loss": "", "Delay": ""}
_OFF = {"enabled": False}

_FIXED: dict[str, Any] = {
    "Mouse and Keyboard": {},
    "USB and Bluetooth": {},
    "Startup and Shutdown": {
        "Autostart": "off",
        "Autostart delay": 0,
        "Autostop": "suspend",
        "Startup view": "headless",
        "On shutdown": "close",
        "On window close": "keep-running",
        "Pause idle": "off",
        "Undo disks": "off",
    },
    "Optimization": {
        "Faster virtual machine": "on",
        "Hypervisor type": "apple",
        "Adaptive hypervisor": "off",
        "Disabled Windows logo": "on",
        "Auto compress virtual disks": "on",
        "Nested virtualization": "off",
        "PMU virtualization": "off",
        "Longer battery life": "on",
        "Show battery status": "on",
        "Resource quota": "unlimited",
    },
    "Travel mode": {"Enter condition": "never", "Enter threshold": 0, "Quit condition": "never"},
    "Security": {
        "Encrypted": "no",
        "TPM enabled": "no",
        "TPM type": "unknown",
        "Custom password protection": "off",
        "Configuration is locked": "no",
        "Protected": "no",
        "Archived": "no",
        "Packed": "no",
    },
    "Smart Guard": _OFF,
    "Modality": {
        "Opacity (percentage)": 50,
        "Stay on top": "yes",
        "Show on all spaces ": "yes",
        "Capture mouse clicks": "yes",
    },
    "Fullscreen": {},
    "Coherence": {},
    "Time Synchronization": {
        "enabled": True,
        "Smart mode": "off",
        "Interval (in seconds)": 60,
        "Timezone synchronization disabled": "off",
    },
    "Expiration": _OFF,
    "Boot order": "hdd0 cdrom0 usb net0",
    "BIOS type": "efi-arm64",
    "EFI Secure boot": "off",
    "Allow select boot device": "off",
    "External boot device": "",
    "SMBIOS settings": {"BIOS Version": "", "System serial number": "", "Board Manufacturer": ""},
    "Host Shared Folders": {},
    "Host defined sharing": "",
    "Shared Profile": _OFF,
    "Shared Applications": _OFF,
    "SmartMount": _OFF,
    "Miscellaneous Sharing": {},
    "Advanced": {
        "VM hostname synchronization": "off",
        "Public SSH keys synchronization": "off",
        "Show developer tools": "off",
        "Swipe from edges": "off",
        "Share host location": "off",
        "Rosetta Linux": "off",
    },
    "Print Management": {},
    "Guest Shared Folders": _OFF,
}
"""What is the same for every VM; no known client reads more than a few of these."""


def vm_record(host: Host, vm: VM) -> dict[str, Any]:
    """Return a ParallelsVM (contract 2.3, 8.18), without what an orchestrator adds."""
    folder = vm.bundle
    record: dict[str, Any] = {"ID": vm.id}
    if vm.ip:
        record["internal_ip_address"] = vm.ip
    record |= {
        "user": vm.user,
        "Name": vm.name,
        "Description": vm.description,
        "Type": vm.type,
        "State": vm.state,
        "OS": vm.os,
        "Template": "no",
        "Uptime": str(int(time.time() - vm.booted_at)) if vm.booted_at else "0",
        "Home path": f"{folder}/config.pvs",
        "Home": f"{folder}/",
        "Restore Image": "",
        "GuestTools": {"state": "installed", "version": f"{DESKTOP_VERSION}-55980"},
        **_FIXED,
        "Hardware": {
            "cpu": {
                "cpus": vm.cpus,
                "auto": "off",
                "VT-x": True,
                "hotplug": False,
                "accl": "high",
                "mode": "64",
                "type": "arm" if host.arch == "arm64" else "x86",
            },
            "memory": {"size": f"{vm.memory_mib}Mb", "auto": "off", "hotplug": False},
            "memory_quota": {"auto": "on"},
            "video": {"adapter-type": "virtio", "size": "0Mb", "automatic-video-memory": "on"},
            "hdd0": {
                "enabled": True,
                "port": "sata:0",
                "image": f"{folder}/harddisk1.hdd",
                "type": "expanded",
                "size": f"{vm.disk_gib * 1024}Mb",
                "online-compact": "off",
            },
            "cdrom0": {"enabled": True, "port": "sata:1", "image": ""},
            "usb": {"enabled": True},
            "net0": {"enabled": True, "type": "shared", "mac": _mac(vm), "card": "virtio"},
            "sound0": {"enabled": True, "output": "Default", "mixer": "Default"},
        },
        "Network": {
            "Conditioned": "off",
            "Inbound": _NETWORK_LIMIT,
            "Outbound": _NETWORK_LIMIT,
            "ipAddresses": [{"type": "ipv4", "ip": vm.ip}] if vm.ip else [],
        },
    }
    return configuring.shown(record, vm) if vm.configuration else record


def _mac(vm: VM) -> str:
    return "001C42" + blake2b(vm.id.encode(), digest_size=3).hexdigest().upper()


def hardware(host: Host) -> dict[str, Any]:
    """Return the SystemUsageResponse (contract 2.7, 8.13). Sizes in MB.

    ``total.disk_count`` is the disk in use, ``total_available.disk_count`` the free disk.
    """
    running = list(host.running())
    resting = [vm for vm in host.vms.values() if vm.state != "running"]
    in_use, reserved = _usage(running), _usage(resting)
    if apple_vms := [vm.id for vm in running if vm.type == APPLE_VM]:
        in_use["mac_vms_running"] = apple_vms
    disk_used = int(host.disk_used_gib() * 1024)
    disk_free = host.disk_gib * 1024 - disk_used
    free_cpus = host.cpus - RESERVED_CPUS - in_use["logical_cpu_count"]
    free_memory = host.memory_mib - RESERVED_MEMORY_MIB - in_use["memory_size"]
    return {
        "cpu_type": host.arch,
        "cpu_brand": "Apple M2 Pro" if host.arch == "arm64" else "Intel Core i7",
        "devops_version": DEVOPS_VERSION,
        "os_name": "macOS",
        "os_version": "15.5",
        "parallels_desktop_version": DESKTOP_VERSION,
        "parallels_desktop_licensed": True,
        "external_ip_address": host.external_ip,
        "is_reverse_proxy_enabled": False,
        "is_log_streaming_enabled": False,
        "system_reserved": _item(RESERVED_CPUS, RESERVED_MEMORY_MIB, RESERVED_DISK_GIB * 1024),
        "total": {
            "physical_cpu_count": host.cpus,
            **_item(host.cpus, host.memory_mib, disk_used),
        },
        "total_available": {
            **_item(max(0, free_cpus), max(0, free_memory), disk_free),
            "prl_home_free_size": disk_free,
            "prl_home_total_size": host.disk_gib * 1024,
        },
        "total_in_use": in_use,
        "total_reserved": reserved,
        "cache_config": {"enabled": True, "folder": CACHE_FOLDER},
        "enabled_modules": ["api", "host", "cache"],
    }


def _item(cpus: int, memory_mib: int, disk_mib: int) -> dict[str, Any]:
    return {"logical_cpu_count": cpus, "memory_size": memory_mib, "disk_count": disk_mib}


def _usage(vms: list[VM]) -> dict[str, Any]:
    return _item(
        sum(vm.cpus for vm in vms),
        sum(vm.memory_mib for vm in vms),
        sum(vm.disk_gib * 1024 for vm in vms),
    )


def license_record(host: Host) -> dict[str, Any]:
    """Return the licence of the host; ``uuid`` and ``serial`` tell one machine from another."""
    return {
        "status": "ACTIVE",
        "serial": host.serial,
        "expiration": "",
        "main_period_ends_at": "",
        "grace_period_ends_at": "",
        "cpu_total": 32,
        "max_memory": 131072,
        "edition": "business",
        "is_trial": "no",
        "is_volume": "yes",
        "deferred_activation": "no",
        "uuid": host.uuid,
    }


def snapshot_record(vm: VM, snapshot: Snapshot) -> dict[str, Any]:
    """Return a VMSnapshot without children."""
    return {
        "id": snapshot.id,
        "name": snapshot.name,
        "date": rfc3339(snapshot.taken_at)[:19].replace("T", " "),
        "state": snapshot.state,
        "current": snapshot.id == vm.current_snapshot,
        "parent": snapshot.parent,
    }


def job_acknowledgement(job: Job) -> dict[str, Any]:
    """Return the 202 that an orchestrator gets: the id, all else at its zero value (3.7)."""
    return {
        "id": job.id,
        "owner": "",
        "state": "",
        "progress": 0,
        "job_type": "",
        "job_operation": "",
        "created_at": ZERO_TIME,
        "updated_at": ZERO_TIME,
    }


def job_record(host: Host, job: Job, owner: str) -> dict[str, Any]:
    """Return a JobResponse (contract 2.6). ``message`` is missing, as it is on a real host."""
    steps, progress = _steps(job) if job.operation == "machines/create" else ([], job.percent)
    kind, _, operation = job.operation.partition("/")
    moving = job.state in ("pending", "running")
    record: dict[str, Any] = {
        "id": job.id,
        "owner": owner,
        "owner_name": "Root",
        "owner_email": "root@localhost",
        "state": job.state,
        "progress": progress,
        "job_type": kind,
        "job_operation": operation,
    }
    if job.by_orchestrator:
        record["is_orchestrator_job"] = True
    if job.begun and steps:
        record["steps"] = steps
    if job.record_id:
        record |= {
            "result": job.result,
            "result_record_id": job.record_id,
            "result_record_name": job.record_name,
            "result_record_type": "virtual_machine",
        }
    if job.error:
        record["error"] = job.error
    record["created_at"] = rfc3339(job.created_at)
    record["updated_at"] = rfc3339(host.now() if moving else job.updated_at)
    return record


def _steps(job: Job) -> tuple[list[dict[str, Any]], int]:
    """Return the steps and the whole progress in percent, out of the time that has passed."""
    done = _weight_done(job)
    steps, before = [], 0.0
    for name, title, weight in PULL_STAGES:
        percent = min(100.0, max(0.0, (done - before) / weight * 100))
        before += weight
        left_out = (job.cached and name in _TRANSFERS) or (
            name == "pull_start_stage" and not job.starts
        )
        if percent == 0:
            state = "pending"
        elif left_out:
            state = "skipped"
        elif percent >= 100:
            state = "completed"
        else:
            state = "failed" if job.state == "failed" else "running"
        steps.append(
            {
                "name": name,
                "display_name": title,
                "weight": weight,
                "parallel": name in _TRANSFERS,
                "has_percentage": True,
                "state": state,
                "current_percentage": round(percent, 1),
                "value": 0,
                "total": 0,
                "eta": "",
                "message": "",
                "error": job.error if state == "failed" else "",
                "filename": "",
                "unit": "",
            },
        )
    return steps, int(done)


def _weight_done(job: Job) -> float:
    """Return how much of the work, of 100, is done; the last 5 only when the job is completed."""
    if job.state == "completed":
        return 100.0
    if not job.begun:
        return 0.0
    passed = time.monotonic() - job.begun
    pulled = min(1.0, passed / job.pull_seconds) if job.pull_seconds else 1.0
    done = pulled * _BEFORE_START
    if pulled == 1.0:
        rest = passed - job.pull_seconds
        done += _START * (min(1.0, rest / job.boot_seconds) if job.boot_seconds else 1.0)
    return min(done, 94.0)
