"""Snapshots of a VM: take, revert to, delete one or all, and look what its host has."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from django.conf import settings
from django.utils import timezone

from hosts.calls import driver_of
from hosts.drivers.base import ErrorKind, HostError
from jobs.outcomes import Again, Done, Fail, Outcome
from orchestrator.refusals import Invalid
from vms import observation, snapshots
from vms.handling import looks, went_on
from vms.lifecycle import move
from vms.states import AT_REST, State
from vms.verbs.asking import ask_in_place
from vms.verbs.handling import VerbHandler

if TYPE_CHECKING:
    from collections.abc import Sequence

    from accounts.actors import Actor
    from hosts.drivers import base
    from hosts.drivers.base import Driver
    from jobs.claims import Claim
    from jobs.models import Job
    from vms.models import Placement, Snapshot, VirtualMachine

NAME_LENGTH = 100
DESCRIPTION_LENGTH = 1000
GONE = "The host does not have this snapshot any more."


def take(actor: Actor, vm: VirtualMachine, *, name: str = "", description: str = "") -> Job:
    """Take a snapshot below the current one; of a running VM with its memory.

    Without a name it gets a number. Its disk space is the host's matter and is not charged. Needs
    the grant to hold still. Raises `Invalid`, `Forbidden`, `Conflict`.
    """
    name = name.strip() or f"Snapshot {vm.snapshots.count() + 1}"
    if len(name) > NAME_LENGTH or not name.isprintable():
        raise Invalid.field("name", f"A name is one line of at most {NAME_LENGTH} characters.")
    if len(description) > DESCRIPTION_LENGTH:
        raise Invalid.field(
            "description", f"A description has at most {DESCRIPTION_LENGTH} characters."
        )
    return ask_in_place(
        actor,
        vm,
        "take_snapshot",
        AT_REST,
        grant=True,
        payload={"name": name, "description": description},
        told={"snapshot": name},
    )


def revert(actor: Actor, snapshot: Snapshot) -> Job:
    """Bring the VM back to `snapshot`: running if it ran then, else stopped.

    What changed since then is lost. Needs the grant to hold still. Raises `Forbidden`, `Conflict`.
    """
    return ask_in_place(
        actor,
        snapshot.vm,
        "revert_snapshot",
        AT_REST,
        grant=True,
        payload=_which(snapshot),
        told={"snapshot": snapshot.name},
    )


def delete(actor: Actor, snapshot: Snapshot, *, children: bool = False) -> Job:
    """Delete a snapshot; without `children` those taken after it stay. Needs no grant."""
    return ask_in_place(
        actor,
        snapshot.vm,
        "delete_snapshots",
        AT_REST,
        payload={**_which(snapshot), "children": children},
        told={"snapshot": snapshot.name, "children": children},
    )


def delete_all(actor: Actor, vm: VirtualMachine) -> Job:
    """Delete all snapshots of a VM, which stays as it is now. Needs no grant."""
    return ask_in_place(actor, vm, "delete_snapshots", AT_REST, payload={}, told={"all": True})


def look(actor: Actor, vm: VirtualMachine) -> Job:
    """Ask the host which snapshots the VM has: somebody may have taken one there."""
    return ask_in_place(actor, vm, "list_snapshots", AT_REST)


def _which(snapshot: Snapshot) -> dict[str, str]:
    return {"snapshot": snapshot.host_snapshot_id, "name": snapshot.name}


class ListHandler(VerbHandler):
    """`vm.list_snapshots`, and the end of every other kind: store what the host lists."""

    states = AT_REST
    first = "list"
    calls = frozenset({"send", "list"})
    lost: ClassVar[Literal["repeat", "ask"]] = "repeat"
    cancellable = True

    def step_list(self, claim: Claim, vm: VirtualMachine, placement: Placement) -> Outcome:
        with driver_of(placement.host) as driver:
            listed = driver.snapshots(placement.host_vm_id)
        return self.listed(claim, vm, listed)

    def listed(self, claim: Claim, vm: VirtualMachine, listed: Sequence[base.Snapshot]) -> Outcome:
        """Return the end of the job, now that the host has shown its list."""
        return Done(
            message=f"It has {len(listed)} snapshots.",
            result={"snapshots": len(listed)},
            effect=lambda: snapshots.record(vm, listed),
        )


class TakeHandler(ListHandler):
    """`vm.take_snapshot`: sent once, because a second one would be another snapshot."""

    first = "send"
    lost: ClassVar[Literal["repeat", "ask"]] = "ask"
    cancellable = False

    def step_send(self, claim: Claim, vm: VirtualMachine, placement: Placement) -> Outcome:
        payload = claim.job.payload
        try:
            with driver_of(placement.host) as driver, claim.sending():
                taken = driver.take_snapshot(
                    placement.host_vm_id, payload["name"], payload["description"]
                )
        except HostError as error:
            if error.outcome_unknown:
                return Again(step="list", payload={"unknown": error.message})
            raise
        return Again(step="list", payload={"taken": taken}, progress=80)

    def listed(self, claim: Claim, vm: VirtualMachine, listed: Sequence[base.Snapshot]) -> Outcome:
        payload = claim.job.payload
        known = set(vm.snapshots.values_list("host_snapshot_id", flat=True))
        taken = next(
            (
                one
                for one in listed
                if one.id == payload.get("taken")
                or ("unknown" in payload and one.name == payload["name"] and one.id not in known)
            ),
            None,
        )
        effect = partial(snapshots.record, vm, listed)
        if taken is None:
            why = payload.get("unknown", "The host does not list it.")
            return Fail(f"Outcome unknown, and it is not sent twice: {why}", effect=effect)
        return Done(
            message=f"The snapshot {taken.name} was taken.",
            result={"snapshot": taken.id, "name": taken.name},
            effect=effect,
        )


class DeleteHandler(ListHandler):
    """`vm.delete_snapshots`: one, one with its children, or all."""

    first = "send"

    def step_send(self, claim: Claim, vm: VirtualMachine, placement: Placement) -> Outcome:
        payload = claim.job.payload
        with driver_of(placement.host) as driver:
            try:
                with claim.sending():
                    self._send(driver, placement.host_vm_id, payload)
            except HostError as error:
                # The list that follows tells whether it is the snapshot that is gone, or the VM.
                if error.kind != ErrorKind.NOT_FOUND:
                    raise
        return went_on("list", progress=80)

    def _send(self, driver: Driver, host_vm_id: str, payload: dict[str, Any]) -> None:
        if "snapshot" in payload:
            driver.delete_snapshot(host_vm_id, payload["snapshot"], payload["children"])
        else:
            driver.delete_snapshots(host_vm_id)


class RevertHandler(ListHandler):
    """`vm.revert_snapshot`: reverting again leads to the same state."""

    first = "send"
    calls = frozenset({"send", "confirm", "list"})
    cancellable = False

    def step_send(self, claim: Claim, vm: VirtualMachine, placement: Placement) -> Outcome:
        wanted = claim.job.payload["snapshot"]
        with driver_of(placement.host) as driver:
            found = {one.id: one for one in driver.snapshots(placement.host_vm_id)}
            if wanted not in found:
                return Fail(GONE, effect=lambda: snapshots.record(vm, list(found.values())))
            with claim.sending():
                driver.revert_to_snapshot(placement.host_vm_id, wanted)
        runs = found[wanted].with_memory
        return Again(
            step="confirm",
            payload={"tries": 0, "looks": 0, "runs": runs},
            progress=60,
            message="Reverted; waiting for the state.",
        )

    def step_confirm(self, claim: Claim, vm: VirtualMachine, placement: Placement) -> Outcome:
        with driver_of(placement.host) as driver:
            seen = driver.status(placement.host_vm_id)
        observation.seen(vm, seen.state, seen.ip_address)
        expected = State.RUNNING if claim.job.payload["runs"] else State.STOPPED
        waited = (timezone.now() - claim.job.created_at).total_seconds()
        if seen.state != expected and waited < settings.VM_STATE_SECONDS:
            pause, counted = looks(claim, settings.VM_POLL_SECONDS)
            return Again(seconds=pause, payload=counted)
        return went_on("list", progress=80, effect=lambda: _follow(vm, seen.state))


def _follow(vm: VirtualMachine, seen: str) -> None:
    """Take the VM to the state that its snapshot brought it to."""
    if seen in AT_REST and seen != vm.state:
        move(vm, State(seen), expect=AT_REST - {State(seen)}, problem="", desired_state=seen)
