"""Steps on VMs from outside: made, awaited, started, stopped, changed, snapshots."""

from __future__ import annotations

from typing import TYPE_CHECKING

from django.utils import timezone

from deployments.running.actions.base import Action, ByJob
from deployments.running.results import Busy, Failure, Result, Retry, Success
from jobs.models import Job
from orchestrator.refusals import NotFound
from vms import ending, requests, verbs
from vms.models import Template
from vms.states import AT_REST, State

if TYPE_CHECKING:
    from collections.abc import Callable

    from accounts.actors import Actor
    from deployments.running.actions.base import Run
    from vms.models import VirtualMachine

LOOK_SECONDS = 1.0
ON_THE_WAY = frozenset(set(State) - AT_REST - set(State.final()) - {State.DELETING})


class Create(ByJob):
    """`vm.create`: a VM of a template on a host, with the grant of whoever started the task."""

    def ask(self, run: Run) -> Job | Result:
        action = run.action
        template = Template.objects.filter(pk=action["template"]).first()
        if template is None:
            raise NotFound("The template of this step is not there any more.")
        from hosts.models import Host

        host = Host.objects.filter(pk=action.get("container", {}).get("host")).first()
        vm = requests.request_vm(
            run.actor,
            template=template,
            name=action.get("name") or "",
            host=host,
            tags=action.get("tags") or (),
            start=False,
            **{
                name: action[name]
                for name in ("cpus", "memory_mib", "disk_gib", "lease_seconds")
                if action.get(name) is not None
            },
        )
        run.log(f"Asked for the VM {vm.name}.")
        if vm.create_job is None or vm.create_job.is_final:  # one of a warm pool, ready already
            return Success(f"{vm.name} was ready.", {"vm": str(vm.pk)})
        return vm.create_job

    def ended(self, run: Run, job: Job) -> Result:
        return Success(job.message, {"vm": job.subject_id})

    def _host_is_away(self, run: Run) -> bool:
        return False  # the queue has waited for a host, and tried others


class WaitForVM(Action):
    """`vm.wait`: until a VM exists, or runs and has an address."""

    def begin(self, run: Run) -> Result:
        vm = run.vm()
        if vm.is_final:
            return Failure(f"{vm.name} is {vm.state}: {vm.reason}")
        exists = vm.state not in State.queued()
        if run.action.get("for", "exists") == "exists" and exists:
            return Success(f"{vm.name} exists.")
        if vm.state == State.RUNNING and vm.ip_address:
            return Success(f"{vm.name} runs and has the address {vm.ip_address}.")
        assert run.step.started_at is not None
        waited = (timezone.now() - run.step.started_at).total_seconds()
        deadline = float(run.action.get("deadline_seconds", 900))
        if waited > deadline:
            return Failure(f"{vm.name} is {vm.state} after {deadline:g} s. Look at it, then retry.")
        return Busy(LOOK_SECONDS)


class StateAction(ByJob):
    """A verb that brings a VM into a state; nothing is asked of one that is there already."""

    def __init__(
        self, reached: State, verb: Callable[[Actor, VirtualMachine, Run], Job], done: str
    ) -> None:
        self.reached = reached
        self.verb = verb
        self.done = done

    def ask(self, run: Run) -> Job | Result:
        vm = run.vm()
        if vm.state == self.reached:
            return Success(f"{vm.name} {self.done} already.")
        if vm.state in ON_THE_WAY:
            return Retry(f"{vm.name} is {vm.state}.", seconds=LOOK_SECONDS)
        return self.verb(run.actor, vm, run)


def _start(actor: Actor, vm: VirtualMachine, run: Run) -> Job:
    if vm.state in (State.SUSPENDED, State.PAUSED):
        return verbs.resume(actor, vm)
    return verbs.start(actor, vm)


def _stop(actor: Actor, vm: VirtualMachine, run: Run) -> Job:
    grace = run.action.get("grace_seconds")
    return verbs.stop(
        actor, vm, force=bool(run.action.get("force")) and not grace, grace_seconds=grace
    )


START = StateAction(State.RUNNING, _start, "runs")
STOP = StateAction(State.STOPPED, _stop, "is stopped")
SUSPEND = StateAction(
    State.SUSPENDED, lambda actor, vm, run: verbs.suspend(actor, vm), "is suspended"
)


class Delete(ByJob):
    """`vm.delete`: until it is proven that the VM is gone."""

    def ask(self, run: Run) -> Job | Result:
        try:
            vm = run.vm()
        except NotFound:
            return Success("The VM is gone already.")
        if vm.is_final:
            return Success(f"{vm.name} is {vm.state} already.")
        return ending.request_delete(run.actor, vm)

    def _host_is_away(self, run: Run) -> bool:
        return False  # the job itself never gives up


class Reconfigure(ByJob):
    """`vm.reconfigure`: another size of a stopped VM."""

    def ask(self, run: Run) -> Job | Result:
        vm = run.vm()
        size = {
            name: run.action[name]
            for name in ("cpus", "memory_mib", "disk_gib")
            if run.action.get(name) is not None and run.action[name] != getattr(vm, name)
        }
        if not size:
            return Success(f"{vm.name} has this size already.")
        return verbs.resize(run.actor, vm, **size)
