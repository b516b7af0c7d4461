"""A clone of a VM."""

from __future__ import annotations

from typing import TYPE_CHECKING

from django.db import transaction

from orchestrator.refusals import Conflict
from vms import requests
from vms.ending import require_use
from vms.states import State
from vms.verbs.asking import require_at_rest

if TYPE_CHECKING:
    from accounts.actors import Actor
    from vms.models import VirtualMachine


def clone(
    actor: Actor,
    vm: VirtualMachine,
    *,
    name: str = "",
    lease_seconds: int | None = None,
    start: bool | None = None,
) -> VirtualMachine:
    """Ask for a clone of a stopped VM, with its size, on its host; return the new VM.

    It is a request like any other: the grant is taken and the host's capacity charged. Raises as
    `vms.requests.request_vm`, and `Conflict` unless the VM is stopped.
    """
    require_use(actor, vm)
    with transaction.atomic():
        require_at_rest(vm, "clone", [State.STOPPED])
        source = vm.placements.open().filter(current=True).select_related("host").first()
        if source is None:
            raise Conflict("This VM is on no host, so there is nothing to clone.")
        return requests.request_vm(
            actor,
            template=vm.template,
            name=name,
            cpus=vm.cpus,
            memory_mib=vm.memory_mib,
            disk_gib=vm.disk_gib,
            lease_seconds=lease_seconds,
            tags=vm.tags,
            start=start,
            source=source,
        )
