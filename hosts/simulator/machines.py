"""What happens to VMs over time: create, clone, the seven state verbs, delete, rename, configure.

State changes are driven by timers of the event loop. The work of a create is a task of the world:
it goes on when the caller who asked for it has gone away (contract 3.5).
"""

from __future__ import annotations

import asyncio
import copy
import re
import time
from dataclasses import dataclass, field

from hosts.simulator import cached, catalogs, hub, render
from hosts.simulator.wire import RefusedError
from hosts.simulator.world import (
    APPLE_VM,
    MAX_RUNNING_APPLE_VMS,
    PACK_SIZE_MIB,
    VM,
    CachedImage,
    Host,
    Job,
    new_vm_id,
)

IP_DELAY_SHARE = 0.25
"""The guest's address appears this share of the boot time after the VM runs."""


@dataclass(slots=True)
class Blueprint:
    """A VM to be: from an image, or from another VM when ``source`` is set."""

    name: str
    user: str
    starts: bool = False
    cpus: int = 2
    memory_mib: int = 2048
    type: str = "VM"
    os: str = "ubuntu"
    catalog_id: str = ""
    version: str = "latest"
    connection: str = field(default="", repr=False)
    source: VM | None = None

    def build(self) -> VM:
        """Return the VM, stopped."""
        vm = VM(id=new_vm_id(), name=self.name, user=self.user)
        template = self.source or self
        vm.cpus, vm.memory_mib = template.cpus, template.memory_mib
        vm.type, vm.os = template.type, template.os
        if self.source:
            vm.disk_gib = self.source.disk_gib
            vm.configuration = copy.deepcopy(self.source.configuration)
        return vm

    def cached_on(self, host: Host) -> bool:
        """Tell whether the host need not download the image."""
        return self.source is not None or (self.catalog_id, self.version) in host.cache


# -- create ----------------------------------------------------------------------------------


def pull_seconds(host: Host, blueprint: Blueprint) -> float:
    """Return how long the host takes until the VM is there: twice as long without the image."""
    return host.clone_seconds * (1 if blueprint.cached_on(host) else 2)


def name_match(host: Host, name: str) -> VM | None:
    """Return the VM that the host takes for one of this name.

    The host's test is an unanchored regex (contract 4.4): ``build-1`` finds ``build-10``.
    Raises ``RefusedError`` 400 when the name is no regular expression.
    """
    try:
        pattern = re.compile(name)
    except re.error:
        raise RefusedError(400, f"error 400: {name} is not a valid machine name") from None
    return next((vm for vm in host.vms.values() if pattern.search(vm.name)), None)


async def create(host: Host, blueprint: Blueprint, job: Job, *, seconds: float) -> VM:
    """Make a VM in ``seconds``, boot it when wanted, and keep the job up to date.

    Returns the new VM, or the *other* VM that the name test found. Raises ``RefusedError`` when the
    host already has a VM of exactly this name, fails creates, or may not run one more macOS VM.
    """
    job.state = "running"
    job.begun = time.monotonic()
    job.pull_seconds = seconds
    job.boot_seconds = host.boot_seconds if blueprint.starts else 0.0
    job.cached = blueprint.cached_on(host)
    job.starts = blueprint.starts
    job.record_name = blueprint.name
    hub.tell(host, "job_manager", "JOB_CREATED", render.job_record(host, job, ""))
    try:
        vm = await _create(host, blueprint, seconds)
    except RefusedError as error:
        job.state = "failed"
        job.error = error.message
        raise
    else:
        _complete(job, vm)
        return vm
    finally:
        job.updated_at = host.now()
        hub.tell(host, "job_manager", "JOB_COMPLETED", render.job_record(host, job, ""))


def end_interrupted(host: Host, job: Job, error: str) -> None:
    """End a create whose work is no more: done when its VM is there, else failed with ``error``."""
    if vm := host.by_name(job.record_name):
        _complete(job, vm)
    else:
        job.state = "failed"
        job.error = error
    job.updated_at = host.now()


def _complete(job: Job, vm: VM) -> None:
    job.state = "completed"
    job.record_id = vm.id
    job.result = f"Virtual machine {vm.id} created"


async def _create(host: Host, blueprint: Blueprint, seconds: float) -> VM:
    if other := name_match(host, blueprint.name):
        return _other(other, blueprint.name)
    await asyncio.sleep(seconds)
    if host.has("failcreate"):
        raise RefusedError(400, f"error 400: failed to create the machine {blueprint.name}")
    if host.by_name(blueprint.name):
        return _other(host.by_name(blueprint.name), blueprint.name)
    vm = blueprint.build()
    if not blueprint.source:
        await _use_cache(host, blueprint, vm)
    host.add(vm)
    tell_changed(host, vm, "VM_ADDED")
    if blueprint.starts:
        await start(host, vm)
    return vm


def _other(vm: VM | None, name: str) -> VM:
    if vm is None or vm.name == name:
        raise RefusedError(400, f"error 400: machine {name} already exists")
    return vm


async def _use_cache(host: Host, blueprint: Blueprint, vm: VM) -> None:
    """Download the image unless it is cached, and give the VM its files."""
    key = (blueprint.catalog_id, blueprint.version)
    real = host.world.options.packs is not None
    if real:
        async with host.pulls.setdefault(key, asyncio.Lock()):
            if key not in host.cache:
                size_mib = await asyncio.to_thread(
                    catalogs.download, host, *key, blueprint.connection
                )
                _note_cached(host, blueprint, key, size_mib)
        await asyncio.to_thread(catalogs.clone_cached, host, *key, vm)
    elif key not in host.cache:
        _note_cached(host, blueprint, key)
    item = host.cache[key]
    item.used_count += 1
    item.used_at = host.now()


def _note_cached(
    host: Host, blueprint: Blueprint, key: tuple[str, str], size_mib: int = PACK_SIZE_MIB
) -> None:
    now = host.now()
    kind = "macvm" if blueprint.type == APPLE_VM else "pvm"
    item = CachedImage(
        *key, host.arch, kind, cached_at=now, used_at=now, used_count=0, size_mib=size_mib
    )
    host.cache[key] = item
    hub.tell(host, "catalog_cache", "CACHE_ITEM_ADDED", cached.cache_item(item))


# -- states ----------------------------------------------------------------------------------


async def start(host: Host, vm: VM) -> None:
    """Boot a VM, or bring it back from a pause; returns when it runs."""
    await _expect(vm, "running", joins=("starting", "resuming"), waits=("stopping", "suspending"))
    match vm.state:
        case "running":
            return
        case "paused" | "suspended":
            await resume(host, vm)
        case _:
            apples = sum(other.type == APPLE_VM for other in host.running())
            if vm.type == APPLE_VM and apples >= MAX_RUNNING_APPLE_VMS:
                raise RefusedError(400, "error 400: the maximum number of macOS VMs is running")
            await _move(host, vm, "starting", "running", host.boot_seconds)


async def stop(host: Host, vm: VM, *, force: bool = False) -> None:
    """Stop a VM; by force at once and out of any state."""
    if force:
        _settle(host, vm, "stopped")
        return
    await _expect(vm, "stopped", joins=("stopping",), waits=("starting", "resuming", "pausing"))
    if vm.state in ("paused", "suspended"):
        raise RefusedError(400, f"error 400: machine {vm.name} is {vm.state}; use force")
    if vm.state != "stopped":
        await _move(host, vm, "stopping", "stopped", host.boot_seconds / 2)


async def suspend(host: Host, vm: VM) -> None:
    """Save a running VM to disk."""
    await _expect(vm, "suspended", joins=("suspending",))
    if vm.state != "suspended":
        _need(vm, "running", "paused")
        await _move(host, vm, "suspending", "suspended", host.boot_seconds / 2)


async def pause(host: Host, vm: VM) -> None:
    """Freeze a running VM; it keeps its address."""
    await _expect(vm, "paused", joins=("pausing",))
    if vm.state != "paused":
        _need(vm, "running")
        _settle(host, vm, "paused", keep_address=True)


async def resume(host: Host, vm: VM) -> None:
    """Bring back a paused or suspended VM."""
    await _expect(vm, "running", joins=("resuming", "starting"))
    if vm.state != "running":
        _need(vm, "paused", "suspended")
        seconds = 0.0 if vm.state == "paused" else host.boot_seconds / 2
        await _move(host, vm, "resuming", "running", seconds)


async def restart(host: Host, vm: VM) -> None:
    """Stop and boot a running VM."""
    await _expect(vm, "", joins=())
    _need(vm, "running")
    await _move(host, vm, "stopping", "stopped", host.boot_seconds / 2)
    await start(host, vm)


async def reset(host: Host, vm: VM) -> None:
    """Cut the power of a VM and boot it."""
    _need(vm, "running", "paused", "starting")
    _settle(host, vm, "stopped")
    await start(host, vm)


STATE_VERBS = {
    "start": start,
    "suspend": suspend,
    "resume": resume,
    "restart": restart,
    "reset": reset,
    "pause": pause,
}


async def _expect(
    vm: VM, goal: str, *, joins: tuple[str, ...], waits: tuple[str, ...] = ()
) -> None:
    """Let a change under way end when it leads to the goal or may be waited for; else refuse."""
    while vm.arrival is not None and vm.state != goal:
        if vm.state not in joins and vm.state not in waits:
            raise RefusedError(400, f"error 400: machine {vm.name} is {vm.state}")
        await asyncio.shield(vm.arrival)


def _need(vm: VM, *states: str) -> None:
    if vm.state not in states:
        raise RefusedError(400, f"error 400: machine {vm.name} is {vm.state}")


async def _move(host: Host, vm: VM, via: str, to: str, seconds: float) -> None:
    """Go through a state to another in ``seconds``; refused when force or delete comes between."""
    if seconds <= 0:
        _arrive(host, vm, to)
        return
    loop = asyncio.get_running_loop()
    vm.turn += 1
    turn = vm.turn
    _become(host, vm, via)
    vm.arrival = arrival = loop.create_future()
    if to != "running":
        vm.ip = ""

    def arrive() -> None:
        if vm.turn == turn:
            arrival.set_result(True)
            _arrive(host, vm, to)

    loop.call_later(seconds, arrive)
    if not await asyncio.shield(arrival):
        raise RefusedError(400, f"error 400: machine {vm.name} was changed by another request")


def _arrive(host: Host, vm: VM, to: str) -> None:
    fresh_boot = vm.state in ("starting", "stopped")
    _settle(host, vm, to, keep_address=to == "running")
    if to != "running":
        return
    if fresh_boot or not vm.booted_at:
        vm.booted_at = time.time()
    turn = vm.turn

    def show_address() -> None:
        if vm.turn == turn and not vm.gone and not vm.ip:
            vm.ip = host.next_address()
            tell_changed(host, vm)

    delay = host.boot_seconds * IP_DELAY_SHARE
    if delay > 0:
        asyncio.get_running_loop().call_later(delay, show_address)
    else:
        show_address()


def _settle(host: Host, vm: VM, state: str, *, keep_address: bool = False) -> None:
    """Put a VM into a state now and wake whoever waits for the change it was in."""
    vm.turn += 1
    _become(host, vm, state)
    if not keep_address:
        vm.ip = ""
    if state == "stopped":
        vm.booted_at = 0.0
    if vm.arrival is not None and not vm.arrival.done():
        vm.arrival.set_result(False)
    vm.arrival = None


def _become(host: Host, vm: VM, state: str) -> None:
    before, vm.state = vm.state, state
    if before != state:
        body = {"previous_state": before, "current_state": state, "vm_id": vm.id}
        hub.tell(host, "pdfm", "VM_STATE_CHANGED", body)


def tell_changed(host: Host, vm: VM, message: str = "VM_UPDATED") -> None:
    """Tell that a VM is there, or is another than before."""
    if host.subscribers:
        body = {"vm_id": vm.id, "new_vm": render.vm_record(host, vm)}
        hub.tell(host, "pdfm", message, body)


# -- the rest --------------------------------------------------------------------------------


def delete(host: Host, vm: VM, *, force: bool) -> None:
    """Remove a VM; raises ``RefusedError`` 400 when it runs and force is not given."""
    if not force and vm.state not in ("stopped", "suspended"):
        raise RefusedError(400, f"error 400: machine {vm.name} is {vm.state}; stop it or use force")
    vm.gone = True
    _settle(host, vm, "stopped")
    host.vms.pop(vm.id, None)
    hub.tell(host, "pdfm", "VM_REMOVED", {"vm_id": vm.id})


def place(host: Host, vm: VM, state: str) -> None:
    """Put a VM into a state from outside, as a person at the machine would (control, revert)."""
    _settle(host, vm, state, keep_address=state in ("running", "paused"))
    if state == "running":
        vm.booted_at = vm.booted_at or time.time()
        vm.ip = vm.ip or host.next_address()


def rename(host: Host, vm: VM, name: str) -> None:
    """Give a VM another name.

    Raises ``RefusedError`` 400 when a VM of this name exists, or the host wants it stopped.
    """
    if not host.renames_running:
        _need(vm, "stopped")
    other = host.by_name(name)
    if other is not None and other is not vm:
        raise RefusedError(400, f"error 400: machine {name} already exists")
    vm.name = name
    tell_changed(host, vm)


def resize(
    host: Host,
    vm: VM,
    *,
    cpus: int | None = None,
    memory_mib: int | None = None,
    disk_mib: int | None = None,
) -> None:
    """Change the size of a stopped VM, whose disk only grows; else raises ``RefusedError`` 400."""
    _need(vm, "stopped")
    disk_gib = vm.disk_gib if disk_mib is None else -(-disk_mib // 1024)
    if disk_gib < vm.disk_gib:
        raise RefusedError(400, "error 400: a disk cannot be made smaller")
    if disk_gib > vm.disk_gib and vm.snapshots:
        raise RefusedError(400, "error 400: the disk of a machine with snapshots keeps its size")
    vm.cpus = vm.cpus if cpus is None else cpus
    vm.memory_mib = vm.memory_mib if memory_mib is None else memory_mib
    vm.disk_gib = disk_gib
    host.note_load()
    tell_changed(host, vm)
