"""The job that makes a VM: create on the chosen host, confirm, or try elsewhere."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

from django.conf import settings
from django.utils import timezone

from catalog import going, handing
from catalog.models import Image
from hosts import inventory
from hosts.calls import driver_of
from hosts.drivers.base import CreateSpec, ErrorKind, HostError
from hosts.models import HostVM
from jobs import bell
from jobs.outcomes import Again, Cancelled, Done, Fail, Outcome
from vms import access, ending, leases, observation, placements, quarantine
from vms.handling import AWAY, VMHandler, again_later, looks, went_on
from vms.lifecycle import PLACER, move, note_problem
from vms.models import Placement, VirtualMachine
from vms.states import State

if TYPE_CHECKING:
    from hosts.drivers.base import Driver
    from jobs.claims import Claim
    from jobs.models import Job

MAXIMUM_PLACEMENTS = 3
GONE = "It was deleted meanwhile."


class CreateHandler(VMHandler):
    """`vm.create`: place (the placer wakes it) → create → watch → confirm → address.

    A clone is configured between create and confirm.
    """

    first = "place"
    calls = frozenset({"create", "configure", "watch", "settle", "confirm", "address"})
    lost = "repeat"
    cancellable = True

    def step_place(self, claim: Claim) -> Outcome:
        """Wait for the placer."""
        return Again(parked=True)

    def step_give_up(self, claim: Claim) -> Outcome:
        """End a VM that no further host can be tried for."""
        last = self.vm_of(claim.job).placements.order_by("-id").first()
        return Fail(f"No other host is left to try. The last attempt: {last.outcome}")  # type: ignore[union-attr]

    def step_expire(self, claim: Claim) -> Outcome:
        """End a VM that waited in the queue as long as it was to."""
        vm = self.vm_of(claim.job)
        waited = (vm.waits_until - vm.created_at).total_seconds() if vm.waits_until else 0
        return Fail(f"No host took it within {waited:.0f} seconds. {vm.reason}")

    def step_create(self, claim: Claim) -> Outcome:
        vm = self.vm_of(claim.job)
        placement = self.placement_of(vm)
        if placement is None or vm.state != State.CREATING:
            return Cancelled(GONE)
        if placement.create_sent_at:
            try:
                if found := self._look_first(placement):
                    return found
                if vm.clone_of:
                    # The host has no job of a clone to ask for: only time tells.
                    placements.doubt(placement)
                    return went_on("settle", message="Looking for the clone.")
            except HostError as error:
                return self._host_away(claim, vm, placement, error)
        if refusal := access.why_not_any_more(vm):
            return Cancelled(refusal)
        if placement.image and going.is_going(placement.host, placement.image):
            return Again(seconds=0.5, message="Waiting until its old copy is out of the cache.")
        try:
            with driver_of(placement.host) as driver:
                placements.note_sending(placement)
                with claim.sending(f"Creating on {placement.host.name}.", progress=5):
                    if vm.clone_of:
                        host_vm_id = driver.clone(
                            self._clone_source(placement, vm), placement.host_name
                        )
                        placements.adopt(placement, host_vm_id)
                        return went_on("configure", progress=50)
                    answer = driver.create(self._spec(vm, placement), job_id=str(placement.pk))
        except HostError as error:
            return self._create_failed(claim, vm, placement, error)
        if answer.host_job_id is None and answer.vm_id:
            return went_on("confirm", progress=60)
        return went_on("watch", progress=10, message=f"{placement.host.name} is making it.")

    def _look_first(self, placement: Placement) -> Outcome | None:
        """After a lost worker: is the host making it already, or has it made it?"""
        with driver_of(placement.host) as driver:
            try:
                if not driver.read_job(str(placement.pk)).is_final:
                    return went_on("watch")
            except HostError as error:
                if error.kind != ErrorKind.NOT_FOUND:
                    raise
        inventory.refresh(placement.host)
        placement.refresh_from_db()
        if not placement.host_vm_id:
            return None
        return went_on("configure" if placement.vm.clone_of else "confirm")

    def _spec(self, vm: VirtualMachine, placement: Placement) -> CreateSpec:
        assert placement.image_id
        image = Image.objects.select_related("source").get(pk=placement.image_id)
        return CreateSpec(
            name=placement.host_name,
            architecture=image.architecture,
            catalog_id=image.catalog_id,
            version=image.version,
            connection=handing.connection_for(image, placement.host),
            type=image.type,  # type: ignore[arg-type]
            cpus=vm.cpus,
            memory_mib=vm.memory_mib,
            start=vm.start,
        )

    def _clone_source(self, placement: Placement, vm: VirtualMachine) -> str:
        source = (
            Placement.objects.open()
            .filter(host=placement.host, host_name=vm.clone_of)
            .exclude(host_vm_id="")
            .first()
            or HostVM.objects.filter(host=placement.host, name=vm.clone_of).first()
        )
        if source is None:
            raise HostError(
                ErrorKind.NOT_FOUND,
                f"The VM {vm.clone_of} to clone is not on {placement.host.name} any more.",
            )
        return source.host_vm_id

    def _create_failed(
        self, claim: Claim, vm: VirtualMachine, placement: Placement, error: HostError
    ) -> Outcome:
        claim.log(f"{placement.host.name}: {error.message}")
        if error.outcome_unknown:
            placements.doubt(placement)
            return went_on(
                "settle",
                seconds=1,
                message=f"{placement.host.name} gave no clear answer; looking for the VM.",
            )
        return self._elsewhere(vm, placement, error.message)

    def step_configure(self, claim: Claim) -> Outcome:
        """Give a clone the size that was asked for and charged: its source may have another."""
        vm = self.vm_of(claim.job)
        placement = self.placement_of(vm)
        if placement is None or vm.state != State.CREATING:
            return Cancelled(GONE)
        try:
            with driver_of(placement.host) as driver, claim.sending():
                driver.configure(placement.host_vm_id, vm.cpus, vm.memory_mib)
        except HostError as error:
            if error.permanent and error.kind != ErrorKind.NOT_FOUND:
                return Fail(error.message)
            return again_later(claim, error, placement.host)
        return went_on("confirm", progress=60)

    def step_watch(self, claim: Claim) -> Outcome:
        vm = self.vm_of(claim.job)
        placement = self.placement_of(vm)
        if placement is None or vm.state != State.CREATING:
            return Cancelled(GONE)
        try:
            with driver_of(placement.host) as driver:
                job = driver.read_job(str(placement.pk))
        except HostError as error:
            if error.kind == ErrorKind.NOT_FOUND:
                placements.doubt(placement)
                return went_on("settle", message=f"{placement.host.name} forgot the create.")
            return self._host_away(claim, vm, placement, error)
        if job.succeeded:
            return went_on("confirm", progress=80, made=job.vm_id or "")
        if job.is_final:
            return self._elsewhere(vm, placement, job.error or f"The host's job ended {job.state}.")
        pause, counted = looks(claim, settings.VM_POLL_SECONDS)
        return Again(
            seconds=pause,
            payload=counted,
            progress=10 + job.progress * 7 // 10,
            message=job.message or f"{placement.host.name} is making it.",
        )

    def step_settle(self, claim: Claim) -> Outcome:
        """Find out whether a doubtful create came to something (principle 4)."""
        vm = self.vm_of(claim.job)
        placement = self.placement_of(vm)
        if placement is None or vm.state != State.CREATING:
            return Cancelled(GONE)
        try:
            verdict = ending.settle(placement)
        except HostError as error:
            return self._host_away(claim, vm, placement, error)
        if verdict is ending.Verdict.PRESENT:
            return went_on("configure" if vm.clone_of else "confirm")
        if verdict is ending.Verdict.MAKING:
            return went_on("watch")
        if verdict is ending.Verdict.ABSENT:
            return self._elsewhere(vm, placement, "The create came to nothing.")
        pause, counted = looks(claim, 1.0, longest=5.0)
        return Again(seconds=pause, payload=counted)

    def step_confirm(self, claim: Claim) -> Outcome:
        """Find the VM on the host by its mark, start it if wanted, and see it run."""
        vm = self.vm_of(claim.job)
        placement = self.placement_of(vm)
        if placement is None or vm.state not in {State.CREATING, State.STARTING}:
            return Cancelled(GONE)
        try:
            return self._confirm(claim, vm, placement)
        except HostError as error:
            if error.kind == ErrorKind.NOT_FOUND:
                placements.doubt(placement)
                return went_on("settle", seconds=1)
            if error.permanent and placement.host_vm_id:
                return Fail(error.message)
            return self._host_away(claim, vm, placement, error)

    def _confirm(self, claim: Claim, vm: VirtualMachine, placement: Placement) -> Outcome:
        with driver_of(placement.host) as driver:
            if not placement.host_vm_id:
                made = str(claim.job.payload.get("made", ""))
                placements.adopt(placement, _find(driver, placement, made))
            seen = driver.status(placement.host_vm_id)
            observation.seen(vm, seen.state, seen.ip_address)
            if not vm.start:
                if seen.state in {"stopped", "suspended", "running"}:
                    return self._exists(vm, placement, State(seen.state))
            elif seen.state == "running":
                return self._exists(vm, placement, State.RUNNING)
            elif seen.state in {"stopped", "suspended"}:
                if refusal := access.why_not_any_more(vm):
                    return Cancelled(refusal)
                with claim.sending():
                    driver.start(placement.host_vm_id)
        pause, counted = looks(claim, settings.VM_POLL_SECONDS)
        return Again(seconds=pause, payload=counted, progress=85, message="Starting.")

    def _exists(self, vm: VirtualMachine, placement: Placement, state: State) -> Outcome:
        def effect() -> None:
            quarantine.note_success(placement)
            move(vm, state, expect=[State.CREATING, State.STARTING], problem="")
            if not vm.pool_id:  # the lease of one that is kept ready begins with its claim
                leases.begin(vm)

        if state == State.RUNNING and vm.start and not vm.ip_address:
            return Again(
                step="address",
                payload={"looks": 0, "tries": 0, "running_at": timezone.now().timestamp()},
                progress=90,
                message="Running; waiting for its IP address.",
                effect=effect,
            )
        if state == State.RUNNING and vm.start:
            message = f"Running at {vm.ip_address}."
        else:
            message = f"Created; it is {state}."
        return Done(message=message, effect=effect, result=_result(vm))

    def step_address(self, claim: Claim) -> Outcome:
        vm = self.vm_of(claim.job)
        placement = self.placement_of(vm)
        if placement is None or vm.state != State.RUNNING:
            return Done(message="Running.", result=_result(vm))
        waited = timezone.now().timestamp() - float(claim.job.payload.get("running_at", 0))
        try:
            with driver_of(placement.host) as driver:
                seen = driver.status(placement.host_vm_id)
        except HostError as error:
            if waited < settings.VM_IP_SECONDS:
                return again_later(claim, error, placement.host)
            return Done(message="Running; its IP address is not known yet.", result=_result(vm))
        observation.seen(vm, seen.state, seen.ip_address)
        if vm.ip_address:
            return Done(message=f"Running at {vm.ip_address}.", result=_result(vm))
        if waited >= settings.VM_IP_SECONDS:
            note_problem(vm, f"It got no IP address within {settings.VM_IP_SECONDS:g} seconds.")
            return Done(message="Running; it got no IP address yet.", result=_result(vm))
        pause, counted = looks(claim, settings.VM_POLL_SECONDS)
        return Again(seconds=pause, payload=counted)

    def _host_away(
        self, claim: Claim, vm: VirtualMachine, placement: Placement, error: HostError
    ) -> Outcome:
        """Wait for a host that does not answer; after the deadline leave it and try another."""
        age = (timezone.now() - placement.created_at).total_seconds()
        if error.kind in AWAY and age > settings.VM_CREATE_DEADLINE and not placement.host_vm_id:
            claim.log(f"{placement.host.name} was silent for {age:.0f} s: trying another host.")
            return self._elsewhere(vm, placement, error.message, abandon=True)
        return again_later(claim, error, placement.host)

    def _elsewhere(
        self, vm: VirtualMachine, placement: Placement, why: str, *, abandon: bool = False
    ) -> Outcome:
        """Give the attempt up and queue for another host, at most three in all."""
        if vm.placements.count() >= MAXIMUM_PLACEMENTS:
            return Fail(
                f"Three hosts were tried. The last one: {why}",
                effect=partial(_let_go, placement, why, abandon),
            )
        return Again(
            step="place",
            parked=True,
            payload={"tries": 0, "looks": 0},
            progress=0,
            message=f"{placement.host.name}: {why} Trying another host.",
            effect=partial(_requeue, vm, placement, why, abandon),
        )

    def cancel(self, claim: Claim) -> Outcome:
        return Cancelled(claim.job.message)

    def cancelled(self, job: Job) -> None:
        self._end(job, State.CANCELLED, job.message or "Cancelled.")

    def failed(self, job: Job, error: str) -> None:
        self._end(job, State.FAILED, error)

    def _end(self, job: Job, final: State, reason: str) -> None:
        """Bring the VM to its end, or keep it with its problem if it exists and runs."""
        vm = self.vm_of(job)
        placement = self.placement_of(vm)
        if vm.state == State.PENDING:
            move(vm, final, expect=[State.PENDING], reason=reason)
        elif vm.state in {State.CREATING, State.STARTING}:
            if final == State.FAILED and placement and placement.host_vm_id:
                # It exists: keep it where a person can look at it.
                state = vm.observed_state if vm.observed_state in {"running"} else "stopped"
                move(vm, State(state), expect=[State.CREATING, State.STARTING], problem=reason)
                leases.begin(vm)
            elif placement is None:
                move(vm, final, expect=[State.CREATING], reason=reason)
            else:
                ending.begin(vm, final=final, reason=reason)
        elif not vm.is_final and vm.state != State.DELETING and final == State.FAILED:
            note_problem(vm, reason)


def _find(driver: Driver, placement: Placement, made: str) -> str:
    """Return the id of the VM with our mark: `made`, as the host's job says, or the one listed.

    By name, compared for equality: a host's own match is an unanchored regex. Raises `HostError`.
    """
    if made:
        try:
            if driver.read_vm(made).name == placement.host_name:
                return made
        except HostError as error:
            if error.kind != ErrorKind.NOT_FOUND:
                raise
    for one in driver.list_vms():
        if one.name == placement.host_name:
            return one.id
    raise HostError(ErrorKind.NOT_FOUND, "The host does not list the VM.")


def _let_go(placement: Placement, why: str, abandon: bool) -> None:
    if abandon:
        placements.abandon(placement)
    else:
        placements.close(placement, why, failed=True)


def _requeue(vm: VirtualMachine, placement: Placement, why: str, abandon: bool) -> None:
    _let_go(placement, why, abandon)
    if move(vm, State.PENDING, expect=[State.CREATING], reason=why, host=None):
        bell.ring_tick(PLACER)


def _result(vm: VirtualMachine) -> dict[str, str]:
    return {"vm": str(vm.pk), "name": vm.name}
