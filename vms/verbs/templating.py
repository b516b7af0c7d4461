"""A template made of a VM: its clone on its host, which the template's VMs are cloned from.

Hosts offer no call that turns a VM into a template (contract 2.3), so a clone takes that place.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from django.conf import settings
from django.db import transaction
from django.utils import timezone

from accounts.actors import Actor
from hosts import ownership
from hosts.calls import driver_of
from hosts.capacity import Size
from hosts.drivers.base import HostError
from jobs.outcomes import Again, Done, Fail, Outcome
from orchestrator.db.ids import mark
from orchestrator.refusals import Conflict, Invalid, Refusal
from vms import placements, templates
from vms.handling import looks, went_on
from vms.models import Template
from vms.states import State
from vms.terms import slug
from vms.verbs.asking import ask_in_place
from vms.verbs.handling import VerbHandler

if TYPE_CHECKING:
    from hosts.drivers.base import RemoteVM
    from jobs.claims import Claim
    from jobs.models import Job
    from vms.models import Placement, VirtualMachine

STOPPED = frozenset({State.STOPPED})
INHERITED = (
    *("host_tags", "start", "default_lease_seconds", "maximum_lease_seconds", "lease_end", "os"),
)


def clone_to_template(actor: Actor, vm: VirtualMachine, *, name: str, description: str = "") -> Job:
    """Clone a stopped VM on its host, and make a template whose VMs are cloned from that clone.

    The template has the VM's size, and lease, system and host tags of its template. The clone is a
    foreign VM: no lease ends it, and nobody works in it. Its disk is charged until it is listed.
    Raises `Forbidden`, `Invalid`, or `Conflict` for another state, a name in use, or no room.
    """
    actor.require("templates.manage")
    name = name.strip()
    if not 1 <= len(name) <= 100:
        raise Invalid.field("name", "Give a name of 1 to 100 characters.")
    if Template.objects.filter(name__iexact=name).exists():
        raise Conflict("A template of this name exists. Choose another name.", code="name_taken")
    clone_name = f"template-{slug(name)}-{mark()}"
    with transaction.atomic():
        placement = vm.placements.open().filter(current=True).first()
        if placement and not placements.grow(placement, _with_clone(placement, vm)):
            raise Conflict("Its host has no room for the disk of a clone.", code="no_room")
        return ask_in_place(
            actor,
            vm,
            "clone_to_template",
            STOPPED,
            grant=True,
            payload={
                "name": name,
                "description": description,
                "clone_name": clone_name,
                "address": actor.address,
            },
            told={"template": name, "clone_name": clone_name},
        )


def _with_clone(placement: Placement, vm: VirtualMachine) -> Size:
    return Size(vm.cpus, vm.memory_mib, 2 * vm.disk_gib, placement.macos_slots)


class CloneToTemplateHandler(VerbHandler):
    """`vm.clone_to_template`: send → find → make. A clone is never sent twice."""

    states = STOPPED
    first = "send"
    calls = frozenset({"send", "find"})
    lost = "repeat"

    def step_send(self, claim: Claim, vm: VirtualMachine, placement: Placement) -> Outcome:
        if "sent_at" in claim.job.payload:  # a worker was lost
            return went_on("find", message="Looking for the clone.")
        claim.remember(sent_at=timezone.now().timestamp())
        try:
            with driver_of(placement.host) as driver, claim.sending():
                driver.clone(placement.host_vm_id, claim.job.payload["clone_name"])
        except HostError as error:
            if not error.outcome_unknown:
                return Fail(error.message)
            claim.log(error.message)
        return went_on("find", progress=60, message="Looking for the clone.")

    def step_find(self, claim: Claim, vm: VirtualMachine, placement: Placement) -> Outcome:
        clone_name = claim.job.payload["clone_name"]
        with driver_of(placement.host) as driver:
            found = [one for one in driver.list_vms() if one.name == clone_name]
        if found:
            return went_on("make", progress=80, effect=lambda: _hand_over(vm, placement, found[0]))
        limit = settings.CLONE_CALL_SECONDS + settings.CREATE_DOUBT_SECONDS
        if timezone.now().timestamp() < claim.job.payload["sent_at"] + limit:
            pause, counted = looks(claim, 0.5, longest=5.0)
            return Again(seconds=pause, payload=counted)
        return Fail(f"{placement.host.name} did not make the clone. Try again.")

    def step_make(self, claim: Claim, vm: VirtualMachine, placement: Placement) -> Outcome:
        wanted = claim.job.payload
        made = Template.objects.filter(clone_of=wanted["clone_name"]).first()
        if made is None:
            fields = {field: getattr(vm.template, field) for field in INHERITED}
            if placement.macos_slots:
                fields["os"] = Template.OS.MACOS
            try:
                asked = claim.job
                made = templates.create_template(
                    Actor(asked.actor, asked.token, wanted.get("address", ""), asked.request_id),
                    clone_of=wanted["clone_name"],
                    name=wanted["name"],
                    description=wanted["description"],
                    cpus=vm.cpus,
                    memory_mib=vm.memory_mib,
                    disk_gib=vm.disk_gib,
                    **fields,
                )
            except Refusal as refusal:
                where = f"The clone is {wanted['clone_name']} on {placement.host.name}."
                return Fail(f"{refusal.message} {where}")
        return Done(
            message=f"The template {made.name} was made.",
            result={"template": str(made.pk), "name": made.name, "clone_of": made.clone_of},
        )

    def failed(self, job: Job, error: str) -> None:
        self._give_back(job)

    def cancelled(self, job: Job) -> None:
        self._give_back(job)

    def _give_back(self, job: Job) -> None:
        vm = self.vm_of(job)
        if placement := self.placement_of(vm):
            placements.shrink(placement, _alone(placement, vm))


def _alone(placement: Placement, vm: VirtualMachine) -> Size:
    return Size(vm.cpus, vm.memory_mib, vm.disk_gib, placement.macos_slots)


def _hand_over(vm: VirtualMachine, placement: Placement, clone: RemoteVM) -> None:
    """The clone's disk counts as foreign from now on, and is charged no longer."""
    placements.shrink(placement, _alone(placement, vm))
    ownership.disown(placement.host_id, clone)
