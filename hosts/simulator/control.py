"""The control API: look at the whole pool, and change hosts under the feet of whoever uses them.

* ``GET /control/``: every host with its VMs, counters and peaks; ``GET /control/h/<k>`` one host.
* ``PATCH /control/h/<k>``: change one host; ``PATCH /control/``: change all of them alike.
* ``POST /control/reset``: back to the start.

Keys of a PATCH, all optional:

=========================  ========================================================================
``faults``                 kind → share (0 to 1), merged into what is set; 0 ends a fault; ``null``
                           ends all. For a fault of hosts, 1 (or ``true``) hits this host for sure
``up``, ``hang``           true or false win over the faults ``refuse`` and ``hang``; ``null``
                           leaves it to them
``cpus``                   number
``memory``                 MiB
``disk``                   GiB
``bundle_bytes``           with ``--packs``: the disk of a VM that is pushed and has no files yet
``pack_room``              with ``--packs``: bytes that a pack may take; ``null`` ends it
``clock_offset_seconds``   how far the host's clock is ahead; ``null`` leaves it to ``clockskew``
``boot_seconds``, ``clone_seconds``, ``late_seconds``, ``slow_seconds``, ``latency_ms``  times
``state_method``           ``PUT``, or ``GET`` for a host older than 1.0.5
``events``                 whether the events hub is offered; false also ends its connections
``renames_running``        whether a VM that is not stopped may get another name
``drop_events``            end the connections of the events hub
``files``                  path → text: the files of its disk that can be copied into guests
``traffic``                a port: somebody asks what the reverse proxy listens at there, if
                           anything, and the host tells that it forwarded it
``vms``                    the whole list of VMs: ``{name, state, cpus, memory (MiB), disk (GiB),
                           type, os, ip, id, home}``; only ``name`` is needed. A VM that is there
                           already (same id, or same name) is changed and stays the same VM
=========================  ========================================================================

Nothing is changed when any value is wrong: the answer is 400 with a sentence.
"""

from __future__ import annotations

import json
from typing import Any

from hosts.simulator import hub, machines
from hosts.simulator.faults import parse_share
from hosts.simulator.wire import cut
from hosts.simulator.world import VM, Host, World, new_vm_id

_NUMBERS = {
    "cpus": "cpus",
    "memory": "memory_mib",
    "disk": "disk_gib",
    "bundle_bytes": "bundle_bytes",
}
_TIMES = ("boot_seconds", "clone_seconds", "late_seconds", "slow_seconds", "latency_ms")
_SWITCHES = ("up", "hang", "events", "drop_events", "renames_running")
_METHODS = ("PUT", "GET")
_VM_STATES = (
    *("running", "stopped", "suspended", "paused"),
    *("starting", "stopping", "suspending", "resuming", "pausing"),
)
_VM_TYPES = ("VM", "APPLE_VZ_VM")


def overview(world: World) -> dict[str, Any]:
    """Return the whole pool as JSON."""
    return {
        "seed": world.options.seed,
        "count": len(world.hosts),
        "hosts": [host_record(host) for host in world.hosts.values()],
    }


def host_record(host: Host) -> dict[str, Any]:
    """Return one host as JSON. Memory in MiB, disk in GiB."""
    port = host.world.port
    k = host.k
    return {
        "k": k,
        "url": f"http://127.0.0.1:{port}/h/{k}",
        "address": f"http://{address_of(k)}:{port}" if host.world.options.addresses else None,
        "uuid": host.uuid,
        "serial": host.serial,
        "external_ip_address": host.external_ip,
        "arch": host.arch,
        "cpus": host.cpus,
        "memory": host.memory_mib,
        "disk": host.disk_gib,
        "up": host.is_up,
        "hang": host.hangs,
        "events": host.events,
        "renames_running": host.renames_running,
        "subscribers": len(host.subscribers or ()),
        "faults": host.faults,
        "clock_offset_seconds": host.clock_offset,
        "state_method": host.state_method,
        **{name: getattr(host, name) for name in _TIMES},
        "vms": [_vm_record(vm) for vm in host.vms.values()],
        "bundles": sorted(host.bundles),
        "jobs": {job.id: job.state for job in host.jobs.values()},
        "cache": [f"{item.catalog_id}/{item.version}" for item in host.cache.values()],
        "requests": dict(host.counters or {}),
        "peak": {"cpus": host.peak_cpus, "memory": host.peak_memory_mib},
    }


def address_of(k: int) -> str:
    """Return the loopback address of host ``k`` with ``--addresses``."""
    return f"127.8.{k // 256}.{k % 256}"


def _vm_record(vm: VM) -> dict[str, Any]:
    return {
        "id": vm.id,
        "name": vm.name,
        "state": vm.state,
        "cpus": vm.cpus,
        "memory": vm.memory_mib,
        "disk": vm.disk_gib,
        "type": vm.type,
        "os": vm.os,
        "ip": vm.ip,
        "home": vm.bundle,
        "configuration": vm.configuration,
    }


def handle(world: World, method: str, path: str, body: bytes) -> tuple[int, Any]:
    """Answer a control request with status and JSON; ``path`` begins with ``/control``."""
    parts = path.strip("/").split("/")
    match method, parts[1:]:
        case "GET", []:
            return 200, overview(world)
        case "POST", ["reset"]:
            world.reset()
            return 200, overview(world)
        case "PATCH", []:
            hosts = list(world.hosts.values())
        case (("GET" | "PATCH"), ["h", number]) if number.isdigit() and int(number) in world.hosts:
            hosts = [world.hosts[int(number)]]
        case _:
            return 404, {"error": "Use GET /control/, PATCH /control/h/<k>, POST /control/reset."}
    if method == "PATCH":
        try:
            patch = _checked(json.loads(body))
        except ValueError as error:
            return 400, {"error": str(error)}
        for host in hosts:
            apply(host, patch)
    if len(parts) == 1:
        return 200, overview(world)
    return 200, host_record(hosts[0])


# -- checking: the whole patch before anything is changed --------------------------------------


def _checked(patch: Any) -> dict[str, Any]:
    if not isinstance(patch, dict):
        raise ValueError("Send a JSON object.")
    return {name: _check(name, value) for name, value in patch.items()}


def _check(name: str, value: Any) -> Any:
    if name == "faults":
        if value is not None and not isinstance(value, dict):
            raise ValueError("“faults” must be an object of kind and share, or null.")
        return value and {kind: parse_share(kind, share) for kind, share in value.items()}
    if name in _SWITCHES:
        if value is not None and not isinstance(value, bool):
            raise ValueError(f"“{name}” must be true, false or null.")
        return value
    if name == "pack_room" and value is None:
        return None
    if name in _NUMBERS or name in ("pack_room", "traffic"):
        return _whole(name, value)
    if name == "files":
        if not isinstance(value, dict) or not all(isinstance(one, str) for one in value.values()):
            raise ValueError("“files” must be an object of paths and texts.")
        return value
    if name == "state_method":
        return _one_of(name, value, _METHODS)
    if name == "vms":
        if not isinstance(value, list):
            raise ValueError("“vms” must be a list.")
        return [_checked_vm(row) for row in value]
    if name in _TIMES or (name == "clock_offset_seconds" and value is not None):
        number = isinstance(value, int | float) and not isinstance(value, bool)
        if not number or (name in _TIMES and value < 0):
            raise ValueError(f"“{name}” must be a number.")
        return float(value)
    if name == "clock_offset_seconds":
        return None
    raise ValueError(f"Unknown setting “{name}”.")


def _checked_vm(row: Any) -> dict[str, Any]:
    if not isinstance(row, dict) or not isinstance(row.get("name"), str) or not row["name"]:
        raise ValueError("Every VM of “vms” must be an object with a name.")
    checked: dict[str, Any] = {}
    for key, value in row.items():
        match key:
            case "cpus" | "memory" | "disk":
                checked[_NUMBERS[key]] = _whole(key, value)
            case "state":
                checked[key] = _one_of(key, value, _VM_STATES)
            case "type":
                checked[key] = _one_of(key, value, _VM_TYPES)
            case "id" | "name" | "os" | "ip" | "home":
                if not isinstance(value, str):
                    raise ValueError(f"“{key}” of a VM must be a string.")
                checked[key] = value
            case "configuration":
                if not isinstance(value, dict):
                    raise ValueError("“configuration” of a VM must be an object.")
                checked[key] = value
            case _:
                raise ValueError(f"Unknown key “{key}” of a VM.")
    return checked


def _whole(name: str, value: Any) -> int:
    if not isinstance(value, int) or isinstance(value, bool) or value < 0:
        raise ValueError(f"“{name}” must be a whole number, not below 0.")
    return value


def _one_of(name: str, value: Any, allowed: Any) -> str:
    if not isinstance(value, str) or value not in allowed:
        raise ValueError(f"“{name}” must be one of: {', '.join(sorted(allowed))}.")
    return value


# -- applying --------------------------------------------------------------------------------


def apply(host: Host, patch: dict[str, Any]) -> None:
    """Change a host by a checked patch."""
    for name, value in patch.items():
        match name:
            case "faults":
                merged = {} if value is None else host.faults | value
                host.faults = {kind: share for kind, share in merged.items() if share > 0}
            case "vms":
                _replace_vms(host, value)
            case "drop_events":
                hub.drop(host)
            case "traffic":
                _forward(host, str(value))
            case _:
                setattr(host, _NUMBERS.get(name, name), value)
    if not host.is_up:
        for transport in list(host.open_requests):
            cut(transport)
    if not host.events:
        hub.drop(host)


def _forward(host: Host, port: str) -> None:
    """Tell what a request to this port of the reverse proxy causes: one event for each request."""
    for one in host.proxy_hosts:
        if one["port"] != port:
            continue
        told = {"reverse_proxy_host_id": one["id"], "host": one["host"], "port": port}
        if route := one.get("tcp_route"):
            target = f"{route.get('target_host', '')}:{route.get('target_port', '')}"
            hub.tell(host, "reverse_proxy", "TCP Traffic Forwarded", told | {"target": target})
        elif one["http_routes"]:
            route = one["http_routes"][0]
            target = f"{route.get('target_host', '')}:{route.get('target_port', '')}"
            told |= {"path": route.get("path", "/"), "target": target}
            hub.tell(host, "reverse_proxy", "HTTP Traffic Forwarded", told)


def _replace_vms(host: Host, rows: list[dict[str, Any]]) -> None:
    kept: dict[str, VM] = {}
    pairs = []
    for row in rows:
        wanted = row.get("id")
        vm = host.vms.get(wanted) if wanted else host.by_name(row["name"])
        vm = vm or VM(id=wanted or new_vm_id(), name=row["name"])
        for key, value in row.items():
            if key not in ("id", "state", "ip"):
                setattr(vm, key, value)
        host.bundles.pop(vm.bundle, None)
        kept[vm.id] = vm
        pairs.append((row, vm))
    for vm in [vm for vm in host.vms.values() if vm.id not in kept]:
        machines.delete(host, vm, force=True)
    host.vms = kept
    for row, vm in pairs:
        if "state" in row:
            machines.place(host, vm, row["state"])
        if "ip" in row:
            vm.ip = row["ip"]
        machines.tell_changed(host, vm)
    host.note_load()
