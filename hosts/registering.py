"""Putting a VM of a host's disk on its list, and taking a foreign one off it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from django.db import transaction

from accounts.audit import audit
from hosts import inventory
from hosts.calls import HostHandler, driver_of
from hosts.drivers.base import ErrorKind, HostError
from hosts.models import Host, HostVM
from jobs.outcomes import Done, Fail, Outcome
from jobs.queueing import enqueue
from orchestrator.refusals import Conflict, Invalid, NotFound

if TYPE_CHECKING:
    from accounts.actors import Actor
    from jobs.claims import Claim
    from jobs.models import Job

REGISTER, UNREGISTER = "host.register_vm", "host.unregister_vm"
REMOVED = "This host was removed from the pool."
OURS = "This VM is ours. Let it go first."
BUNDLES = (".pvm", ".macvm")


def register(actor: Actor, host: Host, *, path: str, name: str = "", new_id: bool = False) -> Job:
    """Have the host list a VM that lies on its disk at `path`; it is foreign then.

    `new_id` gives it another id, for a copy of a VM that the host lists. Sent once: when its worker
    is lost the job ends "outcome unknown". Raises `Forbidden`, `NotFound`, `Invalid`.
    """
    actor.require("hosts.manage")
    path = path.rstrip("/")
    if not (path.startswith("/") and path.isprintable() and path.lower().endswith(BUNDLES)):
        raise Invalid.field("path", "Give the whole path of a .pvm or .macvm, from the root on.")
    name = name.strip()
    if not name.isprintable() or len(name) > 200:
        raise Invalid.field("name", "A name has at most 200 characters, in one line.")
    with transaction.atomic():
        _lock(host)
        data = {"path": path, "name": name, "new_id": new_id}
        audit(actor, REGISTER, f"host:{host.pk}", host.name, data=data)
        return enqueue(REGISTER, f"host:{host.pk}", actor, lane=host.lane, payload=data)


def unregister(actor: Actor, host: Host, *, host_vm_id: str) -> Job:
    """Have the host list a foreign VM no longer; it stays on its disk.

    Raises `Forbidden`, `NotFound`, or `Conflict` for a VM of ours.
    """
    actor.require("hosts.manage")
    with transaction.atomic():
        _lock(host)  # as adopting does: one of the two comes first, and the other is refused
        listed = HostVM.objects.filter(host=host, host_vm_id=host_vm_id).first()
        if listed is None:
            raise NotFound(f"{host.name} lists no such VM. Look at the host again.")
        if listed.claimed:
            raise Conflict(OURS)
        data = {"host_vm_id": host_vm_id, "name": listed.name}
        audit(actor, UNREGISTER, f"host:{host.pk}", host.name, data=data)
        return enqueue(
            UNREGISTER,
            f"host:{host.pk}",
            actor,
            lane=host.lane,
            payload=data,
            unique_key=unregister_key(host, host_vm_id),
        )


def unregister_key(host: Host, host_vm_id: str) -> str:
    """Return the unique key of the job that unregisters a VM."""
    return f"{UNREGISTER}:{host.pk}:{host_vm_id}"


def _lock(host: Host) -> None:
    present = Host.objects.select_for_update(no_key=True).present().filter(pk=host.pk)
    if not present.values_list("pk").first():
        raise NotFound(REMOVED)


class RegisterHandler(HostHandler):
    """`host.register_vm`."""

    first = "send"
    calls = frozenset({"send"})
    lost = "ask"
    cancellable = True

    def step_send(self, claim: Claim) -> Outcome:
        host = Host.objects.present().filter(pk=claim.job.subject_id).first()
        if host is None:
            return Fail(REMOVED)
        wanted = claim.job.payload
        try:
            with driver_of(host) as driver, claim.sending():
                vm = driver.register(wanted["path"], wanted["name"], wanted["new_id"])
        except HostError as error:
            if error.outcome_unknown:
                return Fail(f"Outcome unknown, and it is not sent twice: {error.message}")
            raise
        _refresh(host, claim)
        return Done({"host_vm_id": vm.id, "name": vm.name}, message=f"It is listed as {vm.name}.")


class UnregisterHandler(HostHandler):
    """`host.unregister_vm`: a VM that the host does not list is unregistered."""

    first = "send"
    calls = frozenset({"send"})
    lost = "repeat"
    cancellable = True

    def step_send(self, claim: Claim) -> Outcome:
        host = Host.objects.present().filter(pk=claim.job.subject_id).first()
        if host is None:
            return Fail(REMOVED)
        vm_id = claim.job.payload["host_vm_id"]
        if HostVM.objects.filter(host=host, host_vm_id=vm_id, claimed=True).exists():
            return Fail(OURS)
        try:
            with driver_of(host) as driver, claim.sending():
                driver.unregister(vm_id)
        except HostError as error:
            if error.kind != ErrorKind.NOT_FOUND:
                raise
        _refresh(host, claim)
        return Done(message=f"{claim.job.payload['name']} is not listed any more.")


def _refresh(host: Host, claim: Claim) -> None:
    """Let the page show it at once; when that does not work, the next list does."""
    try:
        inventory.refresh(host)
    except HostError as error:
        claim.log(f"{host.name}: {error.message}")


HANDLERS = {REGISTER: RegisterHandler(), UNREGISTER: UnregisterHandler()}
