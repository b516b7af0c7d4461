"""The end of a VM: stop, delete, and the proof that it is gone. Also the end of strays."""

from __future__ import annotations

from enum import StrEnum
from typing import TYPE_CHECKING

from django.conf import settings
from django.db import transaction
from django.db.models.functions import Now

from accounts.actors import SYSTEM, Actor
from accounts.audit import audit
from hosts import inventory
from hosts.calls import driver_of
from hosts.drivers.base import ErrorKind, HostError
from jobs.models import Job
from jobs.outcomes import Again, Done, Outcome
from jobs.queueing import enqueue, request_cancel
from orchestrator.refusals import Conflict
from vms import placements
from vms.handling import VMHandler, again_later, looks, went_on
from vms.lifecycle import move, note_problem
from vms.models import Lease, Placement, VirtualMachine
from vms.residue import noting
from vms.states import MOVES, State

if TYPE_CHECKING:
    from jobs.claims import Claim

DELETABLE = [State(state) for state, after in MOVES.items() if State.DELETING in after]


class Verdict(StrEnum):
    """What is known of a placement's VM."""

    PRESENT = "present"
    MAKING = "making"  # the host's job is not at its end
    ABSENT = "absent"  # proven, or its job failed
    UNKNOWN = "unknown"  # too early to tell


def settle(placement: Placement) -> Verdict:
    """Look whether the VM of `placement` came into being, by the host's list and its job.

    The list is complete and recorded, so the VM is adopted if it is there. `ABSENT` needs the
    host's job to have failed, or a list begun after the create call's own limit plus
    `CREATE_DOUBT_SECONDS` that lacks the mark while the host does not know the job. Raises
    `HostError` when the host does not answer: an unreachable host settles nothing.
    """
    listing = inventory.refresh(placement.host)
    placement.refresh_from_db()
    if placement.host_vm_id and any(
        one.id == placement.host_vm_id for one in listing.inventory.vms
    ):
        return Verdict.PRESENT
    with driver_of(placement.host) as driver:
        try:
            job = driver.read_job(str(placement.pk))
        except HostError as error:
            if error.kind != ErrorKind.NOT_FOUND:
                raise
            job = None
    if job is not None:
        if not job.is_final:
            return Verdict.MAKING
        if not job.succeeded:
            return Verdict.ABSENT
    call_seconds = (
        settings.CLONE_CALL_SECONDS if placement.vm.clone_of else settings.CREATE_CALL_SECONDS
    )
    over = placements.doubt_is_over(
        placement, listing.began_at, call_seconds + settings.CREATE_DOUBT_SECONDS
    )
    return Verdict.ABSENT if over and listing.counts else Verdict.UNKNOWN


def request_delete(actor: Actor, vm: VirtualMachine) -> Job:
    """Delete `vm`, whatever it is doing; return the job that its caller may wait for.

    A pending VM is cancelled at once. Deleting twice returns the same job. Needs no grant.
    Raises `Forbidden`, or `Conflict` when the VM has ended, or is held and a token asks.
    """
    require_use(actor, vm)
    with transaction.atomic():
        if actor.token and (held := Lease.objects.held().filter(vm=vm).first()):
            raise Conflict(
                f"This VM is kept for debugging (“{held.held_reason}”). A person releases or "
                "deletes it.",
                code="held",
            )
        before = {"state": vm.state}
        job = end(vm, actor, reason=f"Deleted by {actor.name}.")
        data = {"before": before, "after": {"state": vm.state}}
        audit(actor, "vm.delete_requested", vm.subject, vm.name, data=data)
    return job


def require_use(actor: Actor, vm: VirtualMachine) -> None:
    """Raise `Forbidden` unless the actor may act on `vm`: their own, their roles', everybody's."""
    if vm.requested_by_id == actor.user_id and actor.can("vms.use"):
        return
    if vm.share_id in actor.role_ids and actor.can("vms.manage_roles"):
        return
    actor.require("vms.manage_all")


def end(vm: VirtualMachine, actor: Actor = SYSTEM, *, reason: str) -> Job:
    """Cancel a VM that waits, delete one that exists; in the caller's transaction.

    Raises `Conflict` when the VM has ended already.
    """
    for _ in range(5):  # the state may move under us; each round looks again
        if vm.state == State.PENDING:
            if move(vm, State.CANCELLED, expect=[State.PENDING], reason=reason):
                assert vm.create_job is not None
                request_cancel(vm.create_job, reason=reason)
                vm.create_job.refresh_from_db()
                return vm.create_job
        elif vm.state == State.DELETING:
            found = Job.objects.open().filter(unique_key=_key(vm)).first()
            if found:
                return found
        elif vm.is_final:
            raise Conflict(f"This VM has ended already: it is {vm.state}.")
        else:
            final = State.CANCELLED if vm.state == State.CREATING else State.DELETED
            if job := begin(vm, actor, final=final, reason=reason):
                return job
        vm.refresh_from_db()
    raise Conflict("The VM is changing too fast. Try again.")


def begin(vm: VirtualMachine, actor: Actor = SYSTEM, *, final: State, reason: str) -> Job | None:
    """Move `vm` to deleting and enqueue the job that ends it in `final`; None if it moved away."""
    with transaction.atomic():
        if not move(vm, State.DELETING, expect=DELETABLE, reason=reason, desired_state="deleted"):
            return None
        return enqueue(
            "vm.delete",
            vm.subject,
            actor,
            payload={"final": final},
            lane=vm.lane,
            unique_key=_key(vm),
        )


def _key(vm: VirtualMachine) -> str:
    return f"vm.delete:{vm.pk}"


class RemovalHandler(VMHandler):
    """Removes one placement's VM from its host and proves it: find → stop → delete → prove.

    It never gives up on a host that does not answer: the VM is ours until it is proven gone.
    """

    at_host = frozenset({"find", "stop", "delete", "prove"})
    calls = at_host | {"finish"}  # by the worker that has the proof: no queue between the two
    lost = "repeat"

    def placement(self, job: Job) -> Placement | None:
        return (
            Placement.objects.select_related("host", "vm")
            .filter(pk=job.payload.get("placement"))
            .first()
        )

    def run(self, claim: Claim) -> Outcome:
        placement = self.placement(claim.job)
        if placement and placement.host.removed_at:
            return went_on("finish") if claim.job.step != "finish" else super().run(claim)
        if placement is None or claim.job.step not in self.at_host:
            return super().run(claim)
        try:
            return getattr(self, f"step_{claim.job.step}")(claim, placement)
        except HostError as error:
            if claim.job.payload.get("vm_problem", True):
                note_problem(placement.vm, f"Not deleted yet: {error.message}")
            return again_later(claim, error, placement.host)

    def step_find(self, claim: Claim, placement: Placement) -> Outcome:
        if placement.host_vm_id:
            return went_on("stop")
        if placement.create_sent_at is None and placement.closed_at is None:
            placements.close(placement, "It was not asked for on the host yet.")
            return went_on("finish")
        verdict = settle(placement)
        if verdict is Verdict.PRESENT:
            return went_on("stop")
        if verdict is Verdict.ABSENT:
            placements.close(placement, "It is proven that it never came into being.")
            return went_on("finish")
        pause, counted = looks(claim, 1.0, longest=5.0)
        return Again(seconds=pause, payload=counted, message="Looking for it on the host.")

    def step_stop(self, claim: Claim, placement: Placement) -> Outcome:
        with driver_of(placement.host) as driver:
            try:
                state = driver.status(placement.host_vm_id).state
                noting.before_delete(placement, driver)
                if state not in {"stopped", "suspended"}:
                    claim.note("Stopping.", progress=20)
                    with claim.sending():
                        driver.stop(placement.host_vm_id, force=True)
            except HostError as error:
                if error.kind != ErrorKind.NOT_FOUND:
                    raise
        return went_on("delete", progress=40, message="Deleting.")

    def step_delete(self, claim: Claim, placement: Placement) -> Outcome:
        with driver_of(placement.host) as driver, claim.sending():
            try:
                driver.delete(placement.host_vm_id, force=True)
            except HostError as error:
                if error.kind != ErrorKind.NOT_FOUND:
                    raise
        Placement.objects.filter(pk=placement.pk).update(delete_acknowledged_at=Now())
        return went_on("prove", progress=70, message="Deleted; waiting for the proof.")

    def step_prove(self, claim: Claim, placement: Placement) -> Outcome:
        """Ask for a complete list, begun after the delete was acknowledged.

        Recording it closes the placement if the list lacks the mark (`vms.reconciliation`).
        """
        acknowledged = placement.delete_acknowledged_at
        if acknowledged and placement.closed_at and placement.closed_at > acknowledged:
            return went_on("finish")  # the list of a poll, an event or another end proved it
        listing = inventory.refresh(placement.host)
        placement.refresh_from_db()
        gone = listing.counts and not any(
            one.id == placement.host_vm_id for one in listing.inventory.vms
        )
        if placement.closed_at and gone:
            return went_on("finish")
        pause, counted = looks(claim, 0.2)
        return Again(seconds=pause, payload=counted)


class DeleteHandler(RemovalHandler):
    """`vm.delete`: ends a VM in `deleted` (or cancelled, failed, when it never ran)."""

    first = "begin"

    def step_begin(self, claim: Claim) -> Outcome:
        vm = self.vm_of(claim.job)
        creating = Job.objects.open().about(vm.subject).filter(kind="vm.create").first()
        if creating:  # its call ends first; then what it made is removed
            request_cancel(creating, reason=vm.reason)
            pause, counted = looks(claim, 0.2)
            return Again(seconds=pause, payload=counted, message="Letting the create end.")
        placement = self.placement_of(vm)
        if placement is None:
            return went_on("finish")
        return Again(
            step="find",
            payload={"tries": 0, "looks": 0, "placement": str(placement.pk)},
            lane=placement.host.lane,
        )

    def step_finish(self, claim: Claim) -> Outcome:
        vm = self.vm_of(claim.job)
        final = State(claim.job.payload.get("final", State.DELETED))
        return Done(
            message="Deleted." if final == State.DELETED else "Cancelled.",
            result={"vm": str(vm.pk), "name": vm.name},
            effect=lambda: _finish(vm, final),
        )


def _finish(vm: VirtualMachine, final: State) -> None:
    move(
        vm,
        final,
        expect=[State.DELETING],
        problem="",
        observed_state="",
        ip_address="",
    )


class SettleHandler(RemovalHandler):
    """`placement.settle`: removes a stray, or closes a placement that was left open."""

    first = "find"

    def run(self, claim: Claim) -> Outcome:
        claim.job.payload.setdefault("placement", claim.job.subject_id)
        claim.job.payload.setdefault("vm_problem", False)
        return super().run(claim)

    def step_finish(self, claim: Claim) -> Outcome:
        return Done(message="Settled: nothing of it is left on the host.")


def remove_stray(placement: Placement) -> Job:
    """Enqueue the removal of what a past placement left (or may have left) on its host."""
    return enqueue(
        "placement.settle",
        f"placement:{placement.pk}",
        SYSTEM,
        lane=placement.host.lane,
        unique_key=f"placement.settle:{placement.pk}",
    )
