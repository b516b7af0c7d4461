"""Verbs that move a VM to another state: start, stop, suspend."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

from django.conf import settings
from django.db import transaction
from django.utils import timezone

from accounts.audit import audit
from hosts.calls import driver_of
from hosts.drivers.base import ErrorKind, HostError
from jobs.models import Job
from jobs.outcomes import Again, Cancelled, Done, Fail, Outcome
from jobs.queueing import enqueue
from orchestrator.refusals import Conflict, Forbidden
from vms import access, observation
from vms.ending import require_use
from vms.handling import VMHandler, again_later, looks, went_on
from vms.lifecycle import move
from vms.models import VirtualMachine
from vms.states import State

if TYPE_CHECKING:
    from accounts.actors import Actor
    from hosts.drivers.base import Driver
    from jobs.claims import Claim
    from vms.models import Placement

NOT_THERE = "The host does not list this VM any more."


def start(actor: Actor, vm: VirtualMachine) -> Job:
    """Start a stopped or suspended VM. Needs its grant to hold still."""
    return _ask(
        actor, vm, "start", State.STARTING, [State.STOPPED, State.SUSPENDED], "running", grant=True
    )


def stop(actor: Actor, vm: VirtualMachine, *, force: bool = False) -> Job:
    """Stop a running VM: its guest is asked to shut down, and after `VM_STOP_SECONDS` is forced to.

    `force` does not ask. Never refused for lack of a grant.
    """
    return _ask(
        actor,
        vm,
        "stop",
        State.STOPPING,
        [State.RUNNING, State.PAUSED, State.STARTING],
        "stopped",
        payload={"force": force},
    )


def suspend(actor: Actor, vm: VirtualMachine) -> Job:
    """Suspend a running VM to disk. Never refused for lack of a grant."""
    return _ask(actor, vm, "suspend", State.SUSPENDING, [State.RUNNING], "suspended")


def _ask(
    actor: Actor,
    vm: VirtualMachine,
    verb: str,
    to: State,
    expect: list[State],
    desired: str,
    *,
    grant: bool = False,
    payload: dict[str, object] | None = None,
) -> Job:
    require_use(actor, vm)
    with transaction.atomic():
        actor.take()
        if grant and (refusal := access.why_not_any_more(vm)):
            raise Forbidden(refusal, code="grant_revoked")
        before = vm.state
        if not move(vm, to, expect=expect, problem="", desired_state=desired):
            vm.refresh_from_db()
            raise Conflict(
                f"This VM is {vm.state}; {verb} needs it to be "
                f"{' or '.join(str(state) for state in expect)}."
            )
        audit(actor, f"vm.{verb}_requested", vm.subject, vm.name)
        return enqueue(
            f"vm.{verb}",
            vm.subject,
            actor,
            lane=vm.lane,
            payload={"before": before, **(payload or {})},
        )


class StateHandler(VMHandler):
    """A verb that changes a VM's state: send it, then look until the host says that it is so."""

    first = "send"
    calls = frozenset({"send", "confirm"})
    lost = "repeat"
    moving: ClassVar[State]
    reached: ClassVar[dict[str, State]]  # the host's words that mean success
    needs_grant: ClassVar[bool] = False

    def send(self, driver: Driver, host_vm_id: str, job: Job, state: str) -> None:
        """Send the call; `state` is the host's word for the VM's state now."""
        raise AssertionError("every verb sends its own call")

    def run(self, claim: Claim) -> Outcome:
        vm = self.vm_of(claim.job)
        placement = self.placement_of(vm)
        if vm.state != self.moving or placement is None:
            return Cancelled(f"It is {vm.state} now.")
        try:
            return getattr(self, f"step_{claim.job.step}")(claim, vm, placement)
        except HostError as error:
            if error.kind == ErrorKind.NOT_FOUND:
                return Fail(NOT_THERE)
            if error.permanent:
                return Fail(error.message)
            return again_later(claim, error, placement.host)

    def step_send(self, claim: Claim, vm: VirtualMachine, placement: Placement) -> Outcome:
        if self.needs_grant and (refusal := access.why_not_any_more(vm)):
            return Fail(refusal)
        with driver_of(placement.host) as driver:
            seen = driver.status(placement.host_vm_id)
            if seen.state not in self.reached:
                with claim.sending():
                    self.send(driver, placement.host_vm_id, claim.job, seen.state)
        return went_on(
            "confirm", progress=50, message=f"{placement.host.name} does it; waiting for the state."
        )

    def step_confirm(self, claim: Claim, vm: VirtualMachine, placement: Placement) -> Outcome:
        with driver_of(placement.host) as driver:
            seen = driver.status(placement.host_vm_id)
        observation.seen(vm, seen.state, seen.ip_address)
        if (state := self.reached.get(seen.state)) and self.is_complete(seen.ip_address, claim.job):
            return Done(
                message=f"It is {state}.",
                result={"vm": str(vm.pk), "name": vm.name},
                effect=lambda: self._reach(vm, state),
            )
        return self.not_yet(claim, placement)

    def is_complete(self, ip_address: str | None, job: Job) -> bool:
        return True

    def not_yet(self, claim: Claim, placement: Placement) -> Outcome:
        pause, counted = looks(claim, settings.VM_POLL_SECONDS)
        return Again(seconds=pause, payload=counted)

    def _reach(self, vm: VirtualMachine, state: State) -> None:
        move(vm, state, expect=[self.moving], problem="")

    def failed(self, job: Job, error: str) -> None:
        self._back(job, error)

    def cancelled(self, job: Job) -> None:
        self._back(job, "")

    def _back(self, job: Job, problem: str) -> None:
        """Return to the state that the VM was seen in, with the problem shown."""
        vm = self.vm_of(job)
        before = State(job.payload.get("before", State.STOPPED))
        seen = vm.observed_state
        back = State(seen) if seen in {"running", "stopped", "suspended", "paused"} else before
        move(vm, back, expect=[self.moving], problem=problem)


class StartHandler(StateHandler):
    """`vm.start`: ends when the VM runs and has an IP address, or after `VM_IP_SECONDS`."""

    moving = State.STARTING
    reached: ClassVar[dict[str, State]] = {"running": State.RUNNING}
    needs_grant = True

    def send(self, driver: Driver, host_vm_id: str, job: Job, state: str) -> None:
        if state == "suspended":
            driver.resume(host_vm_id)
        elif state != "starting":
            driver.start(host_vm_id)

    def is_complete(self, ip_address: str | None, job: Job) -> bool:
        waited = (timezone.now() - job.created_at).total_seconds()
        return bool(ip_address) or waited > settings.VM_IP_SECONDS


class StopHandler(StateHandler):
    """`vm.stop`: graceful first, forced when the guest does not follow."""

    moving = State.STOPPING
    reached: ClassVar[dict[str, State]] = {"stopped": State.STOPPED}

    def step_send(self, claim: Claim, vm: VirtualMachine, placement: Placement) -> Outcome:
        if Job.objects.open().about(vm.subject).filter(kind="vm.start").exists():
            # Its call ends first: a start that arrives after the stop would win.
            pause, counted = looks(claim, 0.2)
            return Again(seconds=pause, payload=counted, message="Letting the start end.")
        return super().step_send(claim, vm, placement)

    def send(self, driver: Driver, host_vm_id: str, job: Job, state: str) -> None:
        driver.stop(host_vm_id, force=bool(job.payload.get("force")))

    def not_yet(self, claim: Claim, placement: Placement) -> Outcome:
        waited = (timezone.now() - claim.job.created_at).total_seconds()
        if waited > settings.VM_STOP_SECONDS and not claim.job.payload.get("force"):
            claim.log(
                f"The guest did not shut down within {settings.VM_STOP_SECONDS:g} s: forcing."
            )
            return Again(step="send", payload={"force": True, "looks": 0, "tries": 0})
        return super().not_yet(claim, placement)


class SuspendHandler(StateHandler):
    """`vm.suspend`."""

    moving = State.SUSPENDING
    reached: ClassVar[dict[str, State]] = {"suspended": State.SUSPENDED}

    def send(self, driver: Driver, host_vm_id: str, job: Job, state: str) -> None:
        driver.suspend(host_vm_id)
