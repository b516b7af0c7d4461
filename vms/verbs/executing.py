"""Running a command in a VM."""

from __future__ import annotations

from typing import TYPE_CHECKING

from django.conf import settings
from django.db import transaction

from accounts.audit import audit
from hosts.calls import driver_of
from hosts.drivers.base import ErrorKind, HostError
from jobs.outcomes import Done, Fail, Outcome
from jobs.queueing import enqueue
from orchestrator.refusals import Conflict, Forbidden, Invalid
from vms import access
from vms.ending import require_use
from vms.handling import VMHandler, again_later
from vms.models import VirtualMachine
from vms.states import State

if TYPE_CHECKING:
    from collections.abc import Mapping

    from accounts.actors import Actor
    from jobs.claims import Claim
    from jobs.models import Job

OUTPUT_LIMIT = 256 * 1024  # characters kept of each output
COMMAND_LIMIT = 32 * 1024


def execute(
    actor: Actor,
    vm: VirtualMachine,
    *,
    command: str,
    environment: Mapping[str, str] | None = None,
    timeout_seconds: int = 300,
) -> Job:
    """Run `command` in the guest; the job's result is `{exit_code, stdout, stderr, timed_out}`.

    It is never sent twice: when its worker is lost the job ends "outcome unknown". Output beyond
    256 Ki characters is cut. Raises `Conflict` unless the VM runs.
    """
    require_use(actor, vm)
    if not command.strip():
        raise Invalid.field("command", "Give a command to run.")
    if len(command) > COMMAND_LIMIT:
        raise Invalid.field("command", f"A command has at most {COMMAND_LIMIT} characters.")
    if not 1 <= timeout_seconds <= settings.VM_MAXIMUM_EXECUTE_SECONDS:
        raise Invalid.field(
            "timeout_seconds", f"Give 1 to {settings.VM_MAXIMUM_EXECUTE_SECONDS} seconds."
        )
    with transaction.atomic():
        actor.take()
        if refusal := access.why_not_any_more(vm):
            raise Forbidden(refusal, code="grant_revoked")
        if not VirtualMachine.objects.filter(pk=vm.pk, state=State.RUNNING).exists():
            vm.refresh_from_db()
            raise Conflict(f"This VM is {vm.state}; commands run only in a running VM.")
        audit(actor, "vm.execute_requested", vm.subject, vm.name, data={"command": command[:500]})
        return enqueue(
            "vm.execute",
            vm.subject,
            actor,
            lane=vm.lane,
            payload={
                "command": command,
                "environment": dict(environment or {}),
                "timeout_seconds": timeout_seconds,
            },
        )


class ExecuteHandler(VMHandler):
    """`vm.execute`: sent once, never twice."""

    first = "send"
    calls = frozenset({"send"})
    lost = "ask"
    cancellable = True

    def step_send(self, claim: Claim) -> Outcome:
        vm = self.vm_of(claim.job)
        placement = self.placement_of(vm)
        if vm.state != State.RUNNING or placement is None:
            return Fail(f"This VM is {vm.state}; commands run only in a running VM.")
        if refusal := access.why_not_any_more(vm):
            return Fail(refusal)
        payload = claim.job.payload
        try:
            with driver_of(placement.host) as driver, claim.sending():
                answer = driver.execute(
                    placement.host_vm_id,
                    payload["command"],
                    payload["environment"],
                    payload["timeout_seconds"],
                )
        except HostError as error:
            if error.kind == ErrorKind.TIMEOUT and error.outcome_unknown:
                return Done(
                    message=f"No end within {payload['timeout_seconds']} s.",
                    result={"exit_code": None, "stdout": "", "stderr": "", "timed_out": True},
                )
            if error.outcome_unknown:
                return Fail(f"Outcome unknown, and it is not sent twice: {error.message}")
            if error.permanent:
                return Fail(error.message)
            if int(payload.get("tries", 0)) >= 4:
                return Fail(error.message)
            return again_later(claim, error, placement.host)
        return Done(
            message=f"Exit code {answer.exit_code}.",
            result={
                "exit_code": answer.exit_code,
                "stdout": _cut(answer.stdout),
                "stderr": _cut(answer.stderr),
                "timed_out": False,
            },
        )


def _cut(text: str) -> str:
    if len(text) <= OUTPUT_LIMIT:
        return text
    return f"{text[:OUTPUT_LIMIT]}\n… cut after {OUTPUT_LIMIT} of {len(text)} characters"
