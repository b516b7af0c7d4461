"""Looking at machines."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

from compat.machines import finding, shown
from compat.machines.holding import held
from compat.wire.answers import answer
from compat.wire.endpoints import Endpoint
from orchestrator.refusals import Invalid, NotFound
from vms import ending
from vms.states import State

if TYPE_CHECKING:
    from django.http import HttpRequest, HttpResponse

RUNS = (State.RUNNING, State.PAUSED, State.STARTING, State.RESUMING)


class MachineList(Endpoint):
    """GET: the machines that the caller may see."""

    ok: ClassVar[int] = 200  # orchestrators answer reads with 202

    def get(self, request: HttpRequest, host: str = "") -> HttpResponse:
        rows = list(finding.machines(self.actor, host).order_by("pk"))
        return answer(self.filtered(shown.records(self.actor, rows)), self.ok)


class Machine(Endpoint):
    """GET, and DELETE: a running one only with `?force=true`."""

    ok: ClassVar[int] = 200

    def get(self, request: HttpRequest, id: str, host: str = "") -> HttpResponse:
        try:
            vm = finding.machine(self.actor, id, host)
        except NotFound:
            base = finding.base_machine(self.actor, id)
            if base is None:
                raise
            return answer(shown.foreign_record(self.actor, base), self.ok)
        return answer(shown.record(self.actor, vm), self.ok)

    def delete(self, request: HttpRequest, id: str, host: str = "") -> HttpResponse:
        vm = finding.machine(self.actor, id, host)
        if vm.state in RUNS and not self.body.flag("force"):
            ending.require_use(self.actor, vm)
            raise Invalid(
                f"Virtual machine {vm.name} is {shown.state_of(vm)}. Stop it first, or delete it "
                "with ?force=true."
            )
        return held(self.actor, ending.request_delete(self.actor, vm), "delete", vm)


class MachineStatus(Endpoint):
    """GET: state and address, which tools poll."""

    ok: ClassVar[int] = 200

    def get(self, request: HttpRequest, id: str, host: str = "") -> HttpResponse:
        vm = finding.machine(self.actor, id, host)
        status = {
            "id": str(vm.pk),
            "status": shown.state_of(vm),
            "ip_configured": vm.ip_address or shown.NO_ADDRESS,
        }
        return answer(status, self.ok)
