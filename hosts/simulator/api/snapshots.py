"""Snapshots of VMs (contract 2.3, 8.27); on a host even the list answers 202."""

from __future__ import annotations

from typing import Any
from uuid import uuid4

from hosts.simulator import hub, machines, render
from hosts.simulator.api.machines import machine
from hosts.simulator.api.routing import route
from hosts.simulator.wire import Answer, RefusedError, Request
from hosts.simulator.world import VM, Snapshot


@route("GET", "machines/*/snapshots", "snapshot_list")
async def snapshot_list(request: Request) -> Answer:
    """List the snapshots, as a tree with ``?group=true``."""
    vm = machine(request)
    if request.query.get("group", "").lower() == "true":
        return Answer(202, {"snapshots": _tree(vm, "")})
    records = [render.snapshot_record(vm, snapshot) for snapshot in vm.snapshots or ()]
    return Answer(202, {"snapshots": records})


@route("POST", "machines/*/snapshots", "snapshot_create")
async def snapshot_create(request: Request) -> Answer:
    """Take a snapshot below the current one."""
    vm = machine(request)
    fields = await request.fields(required=False)
    number = len(vm.snapshots or ()) + 1
    snapshot = Snapshot(
        id="{" + str(uuid4()) + "}",
        name=fields.text("snapshot_name") or f"Snapshot {number}",
        description=fields.text("snapshot_description"),
        taken_at=request.host.now(),
        state="poweron" if vm.state in ("running", "paused") else "poweroff",
        parent=vm.current_snapshot,
        disk=vm.disk.copy(),
    )
    vm.snapshots = [*(vm.snapshots or ()), snapshot]
    vm.current_snapshot = snapshot.id
    _tell(request, vm)
    return Answer(202, {"snapshot_name": snapshot.name, "snapshot_id": snapshot.id})


@route("DELETE", "machines/*/snapshots", "snapshot_delete")
async def snapshot_clear(request: Request) -> Answer:
    """Remove all snapshots of a VM."""
    vm = machine(request)
    vm.snapshots = None
    vm.current_snapshot = ""
    _tell(request, vm)
    return Answer(202)


@route("DELETE", "machines/*/snapshots/*", "snapshot_delete")
async def snapshot_delete(request: Request) -> Answer:
    """Remove one snapshot, with its children when asked; else they move up to its parent."""
    vm = machine(request)
    snapshot = _snapshot(vm, request.args[1])
    fields = await request.fields(required=False)
    removed = {snapshot.id}
    kept = []
    for other in vm.snapshots or ():  # children come after their parents
        if other.parent in removed and fields.flag("delete_children"):
            removed.add(other.id)
        elif other.parent == snapshot.id:
            other.parent = snapshot.parent
        if other.id not in removed:
            kept.append(other)
    vm.snapshots = kept or None
    if vm.current_snapshot in removed:
        vm.current_snapshot = snapshot.parent
    _tell(request, vm)
    return Answer(202)


@route("POST", "machines/*/snapshots/*/revert", "snapshot_revert")
async def snapshot_revert(request: Request) -> Answer:
    """Bring a VM back to a snapshot with what is on its disk; it runs when it ran then."""
    vm = machine(request)
    snapshot = _snapshot(vm, request.args[1])
    machines.place(request.host, vm, "running" if snapshot.state == "poweron" else "stopped")
    vm.disk = snapshot.disk.copy()
    vm.current_snapshot = snapshot.id
    return Answer(202, {"success": True})


def _tell(request: Request, vm: VM) -> None:
    records = [render.snapshot_record(vm, snapshot) for snapshot in vm.snapshots or ()]
    body = {"vm_id": vm.id, "snapshots": records}
    hub.tell(request.host, "pdfm", "VM_SNAPSHOTS_UPDATED", body)


def _snapshot(vm: VM, snapshot_id: str) -> Snapshot:
    for snapshot in vm.snapshots or ():
        if snapshot.id.strip("{}") == snapshot_id.strip("{}"):
            return snapshot
    raise RefusedError(404, f"error 404: snapshot {snapshot_id} not found")


def _tree(vm: VM, parent: str) -> list[dict[str, Any]]:
    rows = []
    for snapshot in vm.snapshots or ():
        if snapshot.parent == parent:
            record = render.snapshot_record(vm, snapshot)
            if children := _tree(vm, snapshot.id):
                record["children"] = children
            rows.append(record)
    return rows
