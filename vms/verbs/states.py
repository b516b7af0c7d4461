"""Verbs that move a VM to another state: start, stop, suspend, pause, resume."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

from django.conf import settings
from django.utils import timezone

from hosts.calls import driver_of
from jobs.models import Job
from jobs.outcomes import Again, Done, Fail, Outcome
from vms import access, observation
from vms.handling import looks, went_on
from vms.lifecycle import move
from vms.models import VirtualMachine
from vms.states import State
from vms.verbs.asking import ask_to_move
from vms.verbs.handling import VerbHandler

if TYPE_CHECKING:
    from accounts.actors import Actor
    from hosts.drivers.base import Driver
    from jobs.claims import Claim
    from vms.models import Placement

WHICH_RUN_IT = ("vm.start", "vm.resume", "vm.restart", "vm.reset", "vm.revert_snapshot")


def start(actor: Actor, vm: VirtualMachine) -> Job:
    """Start a stopped or suspended VM. Needs its grant to hold still."""
    return ask_to_move(
        actor, vm, "start", State.STARTING, [State.STOPPED, State.SUSPENDED], "running", grant=True
    )


def stop(
    actor: Actor, vm: VirtualMachine, *, force: bool = False, grace_seconds: float | None = None
) -> Job:
    """Stop a running VM: its guest is asked to shut down, and after a while is forced to.

    That while is `grace_seconds`, by default `VM_STOP_SECONDS`. `force` does not ask. Never refused
    for lack of a grant.
    """
    return ask_to_move(
        actor,
        vm,
        "stop",
        State.STOPPING,
        [State.RUNNING, State.PAUSED, State.STARTING, State.RESUMING],
        "stopped",
        payload={"force": force, "grace_seconds": grace_seconds},
    )


def suspend(actor: Actor, vm: VirtualMachine) -> Job:
    """Suspend a running or paused VM to disk. Never refused for lack of a grant."""
    return ask_to_move(
        actor, vm, "suspend", State.SUSPENDING, [State.RUNNING, State.PAUSED], "suspended"
    )


def pause(actor: Actor, vm: VirtualMachine) -> Job:
    """Freeze a running VM in its host's memory. Never refused for lack of a grant."""
    return ask_to_move(actor, vm, "pause", State.PAUSING, [State.RUNNING], "paused")


def resume(actor: Actor, vm: VirtualMachine) -> Job:
    """Let a suspended or paused VM run on. Needs its grant to hold still."""
    return ask_to_move(
        actor,
        vm,
        "resume",
        State.RESUMING,
        [State.SUSPENDED, State.PAUSED],
        "running",
        grant=True,
    )


class StateHandler(VerbHandler):
    """A verb that changes a VM's state: send it, then look until the host says that it is so."""

    first = "send"
    calls = frozenset({"send", "confirm"})
    lost = "repeat"
    moving: ClassVar[State]
    reached: ClassVar[dict[str, State]]  # the host's words that mean success
    needs_grant: ClassVar[bool] = False

    def __init_subclass__(cls) -> None:
        cls.states = frozenset({cls.moving})

    def send(self, driver: Driver, host_vm_id: str, job: Job, state: str) -> None:
        """Send the call; `state` is the host's word for the VM's state now."""
        raise AssertionError("every verb sends its own call")

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
        return self.not_yet(claim, placement, seen.state)

    def is_complete(self, ip_address: str | None, job: Job) -> bool:
        return True

    def not_yet(self, claim: Claim, placement: Placement, seen: str) -> Outcome:
        if _waited(claim) > self.patience(claim.job):
            return Fail(f"{placement.host.name} says that it is {seen}, and it stays so.")
        pause, counted = looks(claim, settings.VM_POLL_SECONDS)
        return Again(seconds=pause, payload=counted)

    def patience(self, job: Job) -> float:
        """Return how long the host may take to report the new state, in seconds."""
        return settings.VM_STATE_SECONDS

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


class RunHandler(StateHandler):
    """A verb that ends when the VM runs and has an IP address, or after `VM_IP_SECONDS`."""

    moving = State.STARTING
    reached: ClassVar[dict[str, State]] = {"running": State.RUNNING}
    needs_grant = True

    def send(self, driver: Driver, host_vm_id: str, job: Job, state: str) -> None:
        if state in {"suspended", "paused"}:
            driver.resume(host_vm_id)
        elif state not in {"starting", "resuming"}:
            driver.start(host_vm_id)

    def is_complete(self, ip_address: str | None, job: Job) -> bool:
        waited = (timezone.now() - job.created_at).total_seconds()
        return bool(ip_address) or waited > settings.VM_IP_SECONDS


class StartHandler(RunHandler):
    """`vm.start`."""


class ResumeHandler(RunHandler):
    """`vm.resume`."""

    moving = State.RESUMING


class StopHandler(StateHandler):
    """`vm.stop`: graceful first, forced when the guest does not follow."""

    moving = State.STOPPING
    reached: ClassVar[dict[str, State]] = {"stopped": State.STOPPED}

    def step_send(self, claim: Claim, vm: VirtualMachine, placement: Placement) -> Outcome:
        if Job.objects.open().about(vm.subject).filter(kind__in=WHICH_RUN_IT).exists():
            # Their calls end first: a start that arrives after the stop would win.
            pause, counted = looks(claim, 0.2)
            return Again(seconds=pause, payload=counted, message="Letting the start end.")
        return super().step_send(claim, vm, placement)

    def send(self, driver: Driver, host_vm_id: str, job: Job, state: str) -> None:
        # One that is frozen or on disk cannot be asked to shut down (contract 2.3).
        force = bool(job.payload.get("force")) or state in {"paused", "suspended"}
        driver.stop(host_vm_id, force=force)

    def not_yet(self, claim: Claim, placement: Placement, seen: str) -> Outcome:
        grace = claim.job.payload.get("grace_seconds")
        grace = settings.VM_STOP_SECONDS if grace is None else grace
        if _waited(claim) > grace and not claim.job.payload.get("force"):
            claim.log(f"The guest did not shut down within {grace:g} s: forcing.")
            return Again(step="send", payload={"force": True, "looks": 0, "tries": 0})
        return super().not_yet(claim, placement, seen)

    def patience(self, job: Job) -> float:
        grace = job.payload.get("grace_seconds")
        return (settings.VM_STOP_SECONDS if grace is None else grace) + super().patience(job)


class SuspendHandler(StateHandler):
    """`vm.suspend`."""

    moving = State.SUSPENDING
    reached: ClassVar[dict[str, State]] = {"suspended": State.SUSPENDED}

    def send(self, driver: Driver, host_vm_id: str, job: Job, state: str) -> None:
        driver.suspend(host_vm_id)


class PauseHandler(StateHandler):
    """`vm.pause`."""

    moving = State.PAUSING
    reached: ClassVar[dict[str, State]] = {"paused": State.PAUSED}

    def send(self, driver: Driver, host_vm_id: str, job: Job, state: str) -> None:
        driver.pause(host_vm_id)


def _waited(claim: Claim) -> float:
    return (timezone.now() - claim.job.created_at).total_seconds()
