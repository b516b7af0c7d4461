"""Bundles: the folders of VMs on a host's disk, which may outlive them (contract 2.3, 8.28)."""

from __future__ import annotations

from dataclasses import replace

from hosts.simulator import catalogs, machines
from hosts.simulator.wire import RefusedError
from hosts.simulator.world import VM, Host, new_vm_id


def remove(host: Host, vm: VM, *, force: bool) -> None:
    """Remove a VM as ``delete``, with what the faults of this request leave behind."""
    machines.delete(host, vm, force=force)
    if host.strikes("keepbundle"):
        host.bundles[vm.bundle] = vm
    else:
        catalogs.forget_bundle(host, vm)
    if host.strikes("keepname"):  # another VM has its name, and its bundle, now
        left = replace(vm, id=new_vm_id(), home=vm.bundle, gone=False)
        host.add(left)
        machines.tell_changed(host, left, "VM_ADDED")


def unregister(host: Host, vm: VM) -> None:
    """Forget a VM and keep its bundle; raises ``RefusedError`` 400 when it runs."""
    machines.delete(host, vm, force=False)
    host.bundles[vm.bundle] = vm


def register(host: Host, path: str, *, name: str, user: str, new_id: bool) -> VM:
    """Make a VM of a bundle again, under the name it had if ``name`` is empty.

    Raises ``RefusedError`` 400 when a VM uses the bundle or the name, 404 without such a bundle.
    """
    if any(vm.bundle == path for vm in host.vms.values()):
        raise RefusedError(400, f"error 400: the machine in {path} is registered already")
    found = host.bundles.get(path)
    if found is None:
        raise RefusedError(404, f"error 404: {path} not found")
    name = name or found.name
    if host.by_name(name):
        raise RefusedError(400, f"error 400: machine {name} already exists")
    del host.bundles[path]
    vm = replace(found, name=name, home=path, user=user or found.user, gone=False)
    vm.id = new_vm_id() if new_id else found.id
    host.add(vm)
    machines.tell_changed(host, vm, "VM_ADDED")
    return vm
