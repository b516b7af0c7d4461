"""Restart and reset: the VM stays `running` in our eyes, and boots anew."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

from django.conf import settings
from django.utils import timezone

from hosts.calls import driver_of
from hosts.drivers.base import HostError
from jobs.outcomes import Again, Done, Fail, Outcome
from vms import observation
from vms.handling import looks, went_on
from vms.lifecycle import move
from vms.states import AT_REST, State
from vms.verbs.asking import ask_in_place
from vms.verbs.handling import VerbHandler

if TYPE_CHECKING:
    from accounts.actors import Actor
    from hosts.drivers.base import Driver
    from jobs.claims import Claim
    from jobs.models import Job
    from vms.models import Placement, VirtualMachine

RUNNING = frozenset({State.RUNNING})


def restart(actor: Actor, vm: VirtualMachine) -> Job:
    """Shut a running VM down and boot it. The job ends when it has an IP address again.

    Raises `Forbidden`, also when the grant does not hold any more, and `Conflict`.
    """
    return ask_in_place(actor, vm, "restart", RUNNING, grant=True)


def reset(actor: Actor, vm: VirtualMachine) -> Job:
    """Cut the power of a running VM and boot it; what its guest had not written is lost.

    Raises as `restart`.
    """
    return ask_in_place(actor, vm, "reset", RUNNING, grant=True)


class RestartHandler(VerbHandler):
    """`vm.restart`: sent once, because a second one would restart it again."""

    states = RUNNING
    first = "send"
    calls = frozenset({"send", "confirm"})
    lost = "ask"
    cancellable: ClassVar[bool] = False

    def send(self, driver: Driver, host_vm_id: str) -> None:
        driver.restart(host_vm_id)

    def step_send(self, claim: Claim, vm: VirtualMachine, placement: Placement) -> Outcome:
        try:
            with driver_of(placement.host) as driver, claim.sending():
                self.send(driver, placement.host_vm_id)
        except HostError as error:
            if not error.outcome_unknown:
                raise
            claim.log(f"{placement.host.name}: {error.message}")
        observation.seen(vm, State.RUNNING, None)  # its address may be another one from now on
        return went_on("confirm", progress=50, message="Booting.")

    def step_confirm(self, claim: Claim, vm: VirtualMachine, placement: Placement) -> Outcome:
        with driver_of(placement.host) as driver:
            seen = driver.status(placement.host_vm_id)
        observation.seen(vm, seen.state, seen.ip_address)
        result = {"vm": str(vm.pk), "name": vm.name}
        if seen.state == State.RUNNING and seen.ip_address:
            return Done(message=f"Running at {seen.ip_address}.", result=result)
        waited = (timezone.now() - claim.job.created_at).total_seconds()
        if waited < settings.VM_IP_SECONDS:
            pause, counted = looks(claim, settings.VM_POLL_SECONDS)
            return Again(seconds=pause, payload=counted)
        if seen.state == State.RUNNING:
            return Done(message="Running; its IP address is not known yet.", result=result)
        problem = f"It did not run again within {settings.VM_IP_SECONDS:g} seconds."

        def follow() -> None:
            if seen.state in AT_REST:
                move(vm, State(seen.state), expect=[State.RUNNING], problem=problem)

        return Fail(problem, effect=follow)


class ResetHandler(RestartHandler):
    """`vm.reset`."""

    def send(self, driver: Driver, host_vm_id: str) -> None:
        driver.reset(host_vm_id)
