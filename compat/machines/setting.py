"""`PUT …/set`: operations on a machine, of which those that the product has are carried out."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from django.conf import settings

from compat.machines import finding, holding
from compat.machines.holding import held
from compat.machines.verbs import STATE_VERBS, change_state, clone_of
from compat.wire.answers import answer
from compat.wire.endpoints import Endpoint
from compat.wire.errors import NotOffered
from orchestrator.refusals import Invalid
from vms import verbs

if TYPE_CHECKING:
    from django.http import HttpRequest, HttpResponse

    from accounts.actors import Actor
    from compat.wire.bodies import Body
    from jobs.models import Job
    from vms.models import VirtualMachine

_NOT_OFFERED = (
    "The operation {} is not offered: it would run a command of the host's own. Offered are state, "
    "cpu set, memory set, machine clone and machine rename."
)


@dataclass
class Operations:
    """What a request asks for: a new size, and at most one other thing."""

    named: list[tuple[str, str]] = field(default_factory=list)  # groups and operations, as sent
    size: dict[str, int] = field(default_factory=dict)
    verb: str = ""
    value: str = ""


def read_operations(body: Body) -> Operations:
    """Return the operations of a VirtualMachineConfigRequest. Raises `Invalid`, `NotOffered`."""
    found = Operations()
    for row in body.rows("operations"):
        group = row.text("group", needed=True).lower()
        name = row.text("operation", needed=True).lower()
        found.named.append((group, name))
        match group, name:
            case ("cpu", "set"):
                found.size["cpus"] = _whole(row)
            case ("memory", "set"):
                found.size["memory_mib"] = _whole(row)
            case ("state", verb) if verb in STATE_VERBS:
                _one(found, verb)
            case ("machine", "clone" | "rename"):
                _one(found, name)
                options = {one.text("flag"): one.text("value") for one in row.rows("options")}
                found.value = row.text("value") or options.get("name", "")
                if not found.value:
                    raise Invalid(f"Invalid request body: {name} needs a name as its value.")
            case ("network", _):
                pass  # the original has no effect for it either
            case _:
                raise NotOffered(_NOT_OFFERED.format(f"{group} {name}"))
    if not found.named:
        raise Invalid("Invalid request body: operations cannot be empty")
    if found.verb and found.size:
        raise Invalid("Send a new size and other operations in requests of their own.")
    return found


def _one(found: Operations, verb: str) -> None:
    if found.verb:
        raise Invalid("Send one operation on the machine's state or name in a request.")
    found.verb = verb


def _whole(row: Body) -> int:
    number = row.number("value")
    if number is None:
        raise Invalid("Invalid request body: value cannot be empty")
    return number


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
        return change_state(actor, vm, asked.verb)
    if any(getattr(vm, name) != number for name, number in asked.size.items()):
        return verbs.resize(actor, vm, **asked.size)
    return None
