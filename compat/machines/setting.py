"""`PUT …/set`: operations on a machine, of which those that the product has are carried out."""

from __future__ import annotations

from typing import TYPE_CHECKING

from django.conf import settings

from compat.machines import finding, holding
from compat.machines.holding import held
from compat.machines.operations import read_operations
from compat.machines.verbs import change_state, clone_of
from compat.wire.answers import answer
from compat.wire.endpoints import Endpoint
from vms import verbs

if TYPE_CHECKING:
    from django.http import HttpRequest, HttpResponse

    from accounts.actors import Actor
    from compat.machines.operations import Operations
    from jobs.models import Job
    from vms.models import VirtualMachine


class Configure(Endpoint):
    """PUT: all of it, or nothing: what is not offered is refused before anything is done."""

    def put(self, request: HttpRequest, id: str, host: str = "") -> HttpResponse:
        asked = read_operations(self.body)
        said = ",".join(f"{group}.{name}" for group, name in asked.named)
        if asked.verb == "clone":
            made = clone_of(self.actor, id, asked.value, host)
            job, vm, seconds = made.create_job, made, settings.COMPAT_CREATE_SECONDS
        else:
            vm, seconds = finding.machine(self.actor, id, host), 0.0
            job = carry_out(self.actor, vm, asked)
        if job:
            return held(self.actor, job, "set", vm, seconds=seconds, operations=said)
        done = [
            {"group": group, "operation": name, "status": holding.SUCCESS}
            for group, name in asked.named
        ]
        return answer({"operations": done})


def carry_out(actor: Actor, vm: VirtualMachine, asked: Operations) -> Job | None:
    """Do what was asked for, but a clone; None when there is nothing to wait for."""
    if asked.verb == "rename":
        return verbs.rename(actor, vm, name=asked.value)
    if asked.verb:
        return change_state(actor, vm, asked.verb, force=asked.force)
    if asked.wish:
        return verbs.configure(actor, vm, asked.wish, **asked.size)
    if any(getattr(vm, name) != number for name, number in asked.size.items()):
        return verbs.resize(actor, vm, **asked.size)
    return None
