"""Another size or another name."""

from __future__ import annotations

from typing import TYPE_CHECKING

from django.conf import settings
from django.db import IntegrityError, transaction

from hosts.calls import driver_of
from hosts.capacity import Size
from hosts.drivers.base import ErrorKind, HostError
from jobs.outcomes import Again, Done, Fail, Outcome
from orchestrator.refusals import Conflict, Invalid
from vms import placements, quotas
from vms.lifecycle import announce, note_problem
from vms.models import VirtualMachine
from vms.states import AT_REST, State
from vms.terms import MAXIMUM, checked_name, name_taken
from vms.verbs.asking import ask_in_place
from vms.verbs.handling import VerbHandler

if TYPE_CHECKING:
    from accounts.actors import Actor
    from hosts.drivers.base import RemoteVM
    from jobs.claims import Claim
    from jobs.models import Job
    from vms.models import Placement

STOPPED = frozenset({State.STOPPED})
MAXIMUM_SENT = 3
KEEPS_ITS_NAME = "It keeps its name on its host"  # begins the problem of an adopted VM
NOT_APPLIED = "The host took the new size each time, and still shows another one. See its log."


def resize(
    actor: Actor,
    vm: VirtualMachine,
    *,
    cpus: int | None = None,
    memory_mib: int | None = None,
    disk_gib: int | None = None,
) -> Job:
    """Give a stopped VM another size; what is not given stays. A disk only grows.

    What it grows by is charged here, before the host is asked, and what it shrinks by is given back
    when the host has done it. Growing needs the grant to hold still. Raises `Invalid`, `Forbidden`,
    or `Conflict` for another state, or when its host has no room.
    """
    before, wanted = size_of(vm), checked_size(vm, cpus, memory_mib, disk_gib)
    if wanted == before:
        raise Invalid("It has this size already. Give another one.")
    with transaction.atomic():
        charge_growth(vm, wanted)
        return ask_in_place(
            actor,
            vm,
            "resize",
            STOPPED,
            grant=any(wanted[field] > before[field] for field in wanted),
            payload={"wanted": wanted},
            told={"before": before, "after": wanted},
        )


def size_of(vm: VirtualMachine) -> dict[str, int]:
    return {"cpus": vm.cpus, "memory_mib": vm.memory_mib, "disk_gib": vm.disk_gib}


def checked_size(
    vm: VirtualMachine, cpus: int | None, memory_mib: int | None, disk_gib: int | None
) -> dict[str, int]:
    """Return the size that a VM is to have; what is None stays. Raises `Invalid`."""
    given = {"cpus": cpus, "memory_mib": memory_mib, "disk_gib": disk_gib}
    wanted = size_of(vm) | {field: value for field, value in given.items() if value is not None}
    for field, value in wanted.items():
        if not 1 <= value <= MAXIMUM[field]:
            raise Invalid.field(field, f"Give a number from 1 to {MAXIMUM[field]}.")
    if wanted["disk_gib"] < vm.disk_gib:
        raise Invalid.field(
            "disk_gib", f"A disk cannot be made smaller: give at least {vm.disk_gib} GiB."
        )
    return wanted


def charge_growth(vm: VirtualMachine, wanted: dict[str, int]) -> None:
    """Charge a host for what its VM will grow by. Raises `Conflict` when it has no room."""
    placement = vm.placements.open().filter(current=True).first()
    quotas.require_growth(vm, _growth(size_of(vm), wanted))
    if placement and not placements.grow(placement, _size(wanted, placement)):
        raise Conflict(
            "Its host has no room for this size. Choose a smaller one, or make room there.",
            code="no_room",
        )


def _growth(before: dict[str, int], wanted: dict[str, int]) -> dict[str, int]:
    more = {name: max(0, wanted[name] - before[name]) for name in ("cpus", "memory_mib")}
    return {
        "maximum_vms": 0,
        "maximum_cpus": more["cpus"],
        "maximum_memory_mib": more["memory_mib"],
    }


def _size(wanted: dict[str, int], placement: Placement) -> Size:
    return Size(**wanted, macos_slots=placement.macos_slots)


class ResizeHandler(VerbHandler):
    """`vm.resize`: looks before it sends, so a repeated one changes nothing."""

    states = STOPPED
    first = "send"
    calls = frozenset({"send", "settle"})
    lost = "repeat"

    def step_send(self, claim: Claim, vm: VirtualMachine, placement: Placement) -> Outcome:
        wanted: dict[str, int] = claim.job.payload["wanted"]
        try:
            with driver_of(placement.host) as driver:
                seen = driver.read_vm(placement.host_vm_id)
                if _applied(seen, vm, wanted) == wanted:
                    return Done(
                        message="It has the new size.",
                        result=wanted,
                        effect=lambda: _take_size(vm, placement, wanted),
                    )
                sent = int(claim.job.payload.get("sent", 0))
                if sent >= MAXIMUM_SENT:
                    return Again(step="settle", payload={"error": NOT_APPLIED})
                disk_gib = wanted["disk_gib"] if wanted["disk_gib"] > seen.disk_gib else None
                with claim.sending():
                    driver.configure(
                        placement.host_vm_id, wanted["cpus"], wanted["memory_mib"], disk_gib
                    )
        except HostError as error:
            if error.permanent and error.kind != ErrorKind.NOT_FOUND:
                return Again(step="settle", payload={"error": error.message})
            raise
        # Look at what came of it, before anything is believed.
        return Again(seconds=settings.VM_POLL_SECONDS if sent else 0, payload={"sent": sent + 1})

    def step_settle(self, claim: Claim, vm: VirtualMachine, placement: Placement) -> Outcome:
        """After a clear no: what the host did before it said so stays, and stays charged."""
        with driver_of(placement.host) as driver:
            seen = driver.read_vm(placement.host_vm_id)
        applied = _applied(seen, vm, claim.job.payload["wanted"])
        return Fail(claim.job.payload["error"], effect=lambda: _take_size(vm, placement, applied))


def _applied(seen: RemoteVM, vm: VirtualMachine, wanted: dict[str, int]) -> dict[str, int]:
    """Return for each resource the wanted amount where the host has it, else the old one."""
    done = {
        "cpus": seen.cpus == wanted["cpus"],
        "memory_mib": seen.memory_mib == wanted["memory_mib"],
        # An image's disk may be larger than what was asked for, and some hosts do not tell it.
        "disk_gib": seen.disk_gib == 0 or seen.disk_gib >= wanted["disk_gib"],
    }
    return {field: wanted[field] if done[field] else getattr(vm, field) for field in wanted}


def _take_size(vm: VirtualMachine, placement: Placement, size: dict[str, int]) -> None:
    placements.shrink(placement, _size(size, placement))
    VirtualMachine.objects.filter(pk=vm.pk).update(**size)
    announce(vm)


def rename(actor: Actor, vm: VirtualMachine, *, name: str) -> Job:
    """Give a VM another name: here at once, on its host by the job.

    There it is `<slug>-<mark>`, and the mark stays: it says that the VM is ours. Raises `Invalid`,
    `Forbidden`, or `Conflict` for a name in use and while other work is under way.
    """
    name = checked_name(name)
    with transaction.atomic():
        told = {"before": vm.name, "after": name}
        job = ask_in_place(actor, vm, "rename", AT_REST, told=told)
        try:
            with transaction.atomic():
                VirtualMachine.objects.filter(pk=vm.pk).update(name=name)
        except IntegrityError:
            raise name_taken(name) from None
        vm.name = name
        announce(vm)
    return job


class RenameHandler(VerbHandler):
    """`vm.rename`: gives the VM on its host the name that it has here by then."""

    states = AT_REST
    first = "send"
    calls = frozenset({"send"})
    lost = "repeat"
    cancellable = True

    def step_send(self, claim: Claim, vm: VirtualMachine, placement: Placement) -> Outcome:
        host_name = placements.name_on_host(vm, placement.mark)
        with driver_of(placement.host) as driver:
            if driver.read_vm(placement.host_vm_id).name != host_name:
                with claim.sending():
                    driver.rename(placement.host_vm_id, host_name)
        return Done(
            message=f"It is {host_name} on {placement.host.name}.",
            result={"name": vm.name, "host_name": host_name},
            effect=lambda: _take_name(vm, placement, host_name),
        )


def _take_name(vm: VirtualMachine, placement: Placement, host_name: str) -> None:
    placements.note_host_name(placement, host_name)
    if vm.problem.startswith(KEEPS_ITS_NAME):
        note_problem(vm, "")
