"""VMs that come to a host's list, and leave it, without being made or deleted (contract 8.28)."""

from __future__ import annotations

from hosts.simulator import hub, machines, render
from hosts.simulator.api.machines import machine
from hosts.simulator.api.routing import route
from hosts.simulator.wire import Answer, RefusedError, Request
from hosts.simulator.world import VM, Host, new_vm_id


@route("POST", "machines/register", "register")
async def register(request: Request) -> Answer:
    """Register a bundle that lies on the host's disk."""
    fields = await request.fields()
    path, name = fields.needed("path", "Path"), fields.text("machine_name")
    vm = put_on(request.host, path, name, new_id=fields.flag("regenerate_source_uuid"))
    return Answer(200, render.vm_record(request.host, vm))


@route("POST", "machines/*/unregister", "unregister")
async def unregister(request: Request) -> Answer:
    """Take a VM out of the list."""
    vm = machine(request)
    (await request.fields()).needed("id", "ID")
    take_off(request.host, vm)
    return Answer(200, {"success": True})


def take_off(host: Host, vm: VM) -> None:
    """Take a stopped VM out of the host's list; its bundle stays on the disk."""
    if vm.state not in ("stopped", "suspended"):
        raise RefusedError(400, f"error 400: machine {vm.name} is {vm.state}")
    del host.vms[vm.id]
    host.bundles[render.bundle(vm)] = vm
    hub.tell(host, "pdfm", "VM_REMOVED", {"vm_id": vm.id})


def put_on(host: Host, path: str, name: str, *, new_id: bool) -> VM:
    """Put the VM of a bundle on the host's list; raises ``RefusedError`` 400 when it cannot be."""
    path = path.rstrip("/")
    if path in map(render.bundle, host.vms.values()):
        raise RefusedError(400, f"error 400: {path} is registered already")
    vm = host.bundles.get(path)
    if vm is None:
        raise RefusedError(400, f"error 400: there is no machine at {path}")
    if host.by_name(name or vm.name):
        raise RefusedError(400, f"error 400: machine {name or vm.name} already exists")
    del host.bundles[path]
    vm.name = name or vm.name
    vm.id = new_vm_id() if new_id else vm.id
    host.add(vm)
    machines.tell_changed(host, vm, "VM_ADDED")
    return vm
