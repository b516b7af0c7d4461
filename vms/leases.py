"""Leases: how long a VM may live."""

from __future__ import annotations

from typing import TYPE_CHECKING

import structlog
from django.db import transaction
from django.db.models.functions import Now

from accounts.actors import SYSTEM
from accounts.audit import audit
from jobs.queueing import record_done
from orchestrator.db.clock import from_now
from orchestrator.refusals import Conflict, Forbidden, Invalid, Refusal
from vms import access, verbs
from vms.ending import end, require_use
from vms.lifecycle import announce
from vms.models import Lease, LeaseEnd, VirtualMachine
from vms.requests import maximum_lease_seconds
from vms.states import AT_REST, State

if TYPE_CHECKING:
    from accounts.actors import Actor
    from jobs.models import Job

log = structlog.get_logger(__name__)


def begin(vm: VirtualMachine) -> None:
    """Start the lease of a VM that exists now; starting it twice changes nothing."""
    Lease.objects.get_or_create(
        vm=vm, defaults={"started_at": Now(), "ends_at": from_now(vm.lease_seconds)}
    )


def extend(actor: Actor, vm: VirtualMachine, *, seconds: int | None = None) -> Job:
    """Let the lease end `seconds` from now (by default: the time first asked for).

    Bounded by template and grant, and refused when the grant has ended. Raises `Invalid`,
    `Forbidden`, or `Conflict` when the VM has no lease.
    """
    require_use(actor, vm)
    wanted = vm.lease_seconds if seconds is None else seconds
    longest = maximum_lease_seconds(vm.template, vm.grant)
    if not 1 <= wanted <= longest:
        raise Invalid.field(
            "lease_seconds", f"This template and grant allow leases of 1 to {longest} seconds."
        )
    with transaction.atomic():
        actor.take()
        if refusal := access.why_not_any_more(vm):
            raise Forbidden(refusal, code="grant_revoked")
        open_vms = VirtualMachine.objects.open().exclude(state="deleting").filter(pk=vm.pk)
        if not Lease.objects.filter(vm__in=open_vms).update(
            ends_at=from_now(wanted), acted_at=None
        ):
            raise Conflict("This VM has no lease to extend: it is not running yet, or has ended.")
        audit(actor, "vm.lease_extended", vm.subject, vm.name, data={"seconds": wanted})
        announce(vm)
        return record_done("vm.extend", vm.subject, actor, result={"lease_seconds": wanted})


def watch() -> int:
    """Act on the leases whose time is over; return how many. Safe to run twice at once."""
    acted = 0
    for lease in Lease.objects.ended().select_related("vm__template")[:200]:
        try:
            acted += _act(lease)
        except Refusal as refusal:  # it changes by itself just now: the next round looks again
            log.info("lease.waits", vm=str(lease.vm_id), reason=refusal.message)
    return acted


def _act(lease: Lease) -> bool:
    vm = lease.vm
    ends_by_delete = vm.template.lease_end == LeaseEnd.DELETE
    if not ends_by_delete and not vm.is_final and vm.state not in AT_REST:
        return False  # it is starting or stopping: the next round finds it at rest
    with transaction.atomic():
        if not Lease.objects.ended().filter(pk=lease.pk).update(acted_at=Now()):
            return False
        if vm.is_final:
            return False
        audit(SYSTEM, "vm.lease_ended", vm.subject, vm.name, data={"end": vm.template.lease_end})
        if ends_by_delete:
            end(vm, reason="Its lease ended.")
        elif vm.state in {State.RUNNING, State.PAUSED}:
            if vm.template.lease_end == LeaseEnd.STOP:
                verbs.stop(SYSTEM, vm)
            else:
                verbs.suspend(SYSTEM, vm)
    return True
