"""What the jobs of verbs share."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

from hosts.drivers.base import ErrorKind, HostError
from jobs.outcomes import Cancelled, Fail, Outcome
from vms.handling import VMHandler, again_later

if TYPE_CHECKING:
    from jobs.claims import Claim
    from vms.models import Placement, VirtualMachine
    from vms.states import State

NOT_THERE = "The host does not list this VM any more."


class VerbHandler(VMHandler):
    """A job that goes on as long as its VM is in one of `states`.

    A step is `step_<name>(claim, vm, placement)`. Troubles of the host that may pass are waited
    for without an end.
    """

    states: ClassVar[frozenset[State]]

    def run(self, claim: Claim) -> Outcome:
        vm = self.vm_of(claim.job)
        placement = self.placement_of(vm)
        if vm.state not in self.states or placement is None:
            return Cancelled(f"It is {vm.state} now.")
        try:
            outcome: Outcome = getattr(self, f"step_{claim.job.step}")(claim, vm, placement)
            return outcome
        except HostError as error:
            return self.troubled(claim, vm, placement, error)

    def troubled(
        self, claim: Claim, vm: VirtualMachine, placement: Placement, error: HostError
    ) -> Outcome:
        """Return what a step that the host did not do comes to."""
        if error.kind == ErrorKind.NOT_FOUND:
            return Fail(NOT_THERE)
        if error.permanent:
            return Fail(error.message)
        return again_later(claim, error, placement.host)
