"""What the jobs of VMs share: reading their VM and placement, and living with host errors."""

from __future__ import annotations

from typing import TYPE_CHECKING

import structlog

from hosts.calls import HostHandler
from hosts.drivers.base import ErrorKind, HostError
from jobs.outcomes import Again
from vms.models import Placement, VirtualMachine

if TYPE_CHECKING:
    from hosts.models import Host
    from jobs.claims import Claim
    from jobs.models import Job

log = structlog.get_logger(__name__)

LONGEST_PAUSE = 30.0
AWAY = frozenset(
    {
        ErrorKind.REFUSED,
        ErrorKind.TIMEOUT,
        ErrorKind.NAME_NOT_FOUND,
        ErrorKind.DISCONNECTED,
    }
)


class VMHandler(HostHandler):
    """A job about one VM."""

    def vm_of(self, job: Job) -> VirtualMachine:
        return VirtualMachine.objects.get(pk=job.subject_id)

    def placement_of(self, vm: VirtualMachine) -> Placement | None:
        """Return the VM's current placement, if it is open."""
        return vm.placements.open().filter(current=True).select_related("host").first()


def again_later(claim: Claim, error: HostError, host: Host) -> Again:
    """Try the same step again after a pause that grows, without ever giving up."""
    tries = int(claim.job.payload.get("tries", 0))
    claim.log(f"{host.name}: {error.message}")
    return Again(
        seconds=min(LONGEST_PAUSE, 2.0**tries),
        payload={"tries": min(tries + 1, 10)},
        message=f"{host.name} does not do it yet: {error.message} Trying again.",
    )


def looks(claim: Claim, first: float, longest: float = 2.0) -> tuple[float, dict[str, int]]:
    """Return the pause before the next look, growing from `first` to `longest` seconds."""
    count = int(claim.job.payload.get("looks", 0))
    return min(longest, first * 1.5**count), {"looks": min(count + 1, 30)}


def went_on(step: str, *, made: str = "", **more: object) -> Again:
    """Go on to `step` with fresh counters, and the VM that the host says it made."""
    counters: dict[str, object] = {"tries": 0, "looks": 0}
    payload = counters | ({"made": made} if made else {})
    return Again(step=step, payload=payload, **more)  # type: ignore[arg-type]
