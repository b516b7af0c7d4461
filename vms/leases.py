"""Leases: how long a VM may live."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import structlog
from django.conf import settings
from django.db import transaction
from django.db.models.functions import Now

from accounts.actors import SYSTEM
from accounts.audit import audit, changed
from accounts.models import User
from accounts.permissions import scoped
from events.publishing import publish
from jobs.models import Job
from jobs.queueing import record_done
from orchestrator.db.clock import from_now
from orchestrator.refusals import Conflict, Forbidden, Invalid, Refusal
from vms import access, verbs
from vms.ending import end, require_use
from vms.lifecycle import announce
from vms.models import Lease, LeaseEnd, Placement, VirtualMachine
from vms.states import AT_REST, State
from vms.terms import maximum_lease_seconds

if TYPE_CHECKING:
    from accounts.actors import Actor
    from vms.models import LeaseQuerySet

log = structlog.get_logger(__name__)

WARNING_SHARE = 5  # a warning comes at the earliest when a fifth of the lease is left


def begin(vm: VirtualMachine) -> None:
    """Start the lease of a VM that exists now; starting it twice changes nothing."""
    _lease, created = Lease.objects.get_or_create(
        vm=vm, defaults={"started_at": Now(), **_times(vm.lease_seconds)}
    )
    if created:
        _tell(vm, "lease.started")


def _times(seconds: float) -> dict[str, Any]:
    """Return the columns of a lease that ends in `seconds`. A short one is warned of late."""
    warning = min(settings.LEASE_WARNING_SECONDS, seconds / WARNING_SHARE)
    return {"ends_at": from_now(seconds), "warn_at": from_now(seconds - warning), "warned_at": None}


def _tell(vm: VirtualMachine, kind: str, **data: Any) -> None:
    publish(
        kind,
        vm.subject,
        {"name": vm.name, **data},
        permission="vms.view_all",
        scope=scoped(vm.share_id),
        owner_id=vm.requested_by_id,
    )


def extend(actor: Actor, vm: VirtualMachine, *, seconds: int | None = None) -> Job:
    """Let the lease end `seconds` from now (by default: the time first asked for).

    Bounded by template and grant, and refused when the grant has ended. Raises `Invalid`,
    `Forbidden`, or `Conflict` when the VM has no lease.
    """
    with transaction.atomic():
        before = _ends_at(vm)
        wanted = _extend(actor, vm, seconds)
        data = changed(before, _ends_at(vm)) | {"seconds": wanted}
        audit(actor, "vm.lease_extended", vm.subject, vm.name, data=data)
        return record_done("vm.extend", vm.subject, actor, result={"lease_seconds": wanted})


def _ends_at(vm: VirtualMachine) -> dict[str, Any]:
    return {"ends_at": Lease.objects.filter(vm=vm).values_list("ends_at", flat=True).first()}


def heartbeat(actor: Actor, vm: VirtualMachine) -> Job:
    """Say that a pipeline still works with the VM: its lease ends as much later as first asked for.

    A pipeline asks for a short lease and says this now and then; when it dies, the lease ends. All
    heartbeats of an account on a VM are one job, and the first one is audited. Raises as `extend`.
    """
    with transaction.atomic():
        wanted = _extend(actor, vm, None)
        earlier = Job.objects.about(vm.subject).filter(kind="vm.heartbeat", actor=actor.user)
        job = earlier.select_for_update().order_by("-pk").first()
        if job is None:
            audit(actor, "vm.heartbeat", vm.subject, vm.name, data={"seconds": wanted})
            return record_done(
                "vm.heartbeat", vm.subject, actor, result={"lease_seconds": wanted, "count": 1}
            )
        job.result = {"lease_seconds": wanted, "count": int(job.result["count"]) + 1}
        Job.objects.filter(pk=job.pk).update(result=job.result, finished_at=Now())
        return job


def _extend(actor: Actor, vm: VirtualMachine, seconds: int | None) -> int:
    """Let the lease end later; return in how many seconds."""
    require_use(actor, vm)
    wanted = vm.lease_seconds if seconds is None else seconds
    longest = maximum_lease_seconds(vm.template, vm.grant)
    if not 1 <= wanted <= longest:
        raise Invalid.field(
            "lease_seconds", f"This template and grant allow leases of 1 to {longest} seconds."
        )
    actor.take()
    if refusal := access.why_not_any_more(vm):
        raise Forbidden(refusal, code="grant_revoked")
    _refuse_if_it_yields(vm, wanted)
    if not _open_lease(vm).update(acted_at=None, **_times(wanted)):
        raise Conflict("This VM has no lease to extend: it is not running yet, or has ended.")
    announce(vm)
    return wanted


def _refuse_if_it_yields(vm: VirtualMachine, seconds: float) -> None:
    """Raise `Conflict` when a VM that was let in before an earlier request would stay too long."""
    yields = Placement.objects.open().filter(
        vm=vm, current=True, yields_at__lt=from_now(seconds), yields_to__state=State.PENDING
    )
    if at := yields.values_list("yields_at", flat=True).first():
        raise Conflict(
            "This VM was let in because it would be gone before an earlier request has its room, "
            f"at {at:%Y-%m-%d %H:%M} UTC. Until that request has a host, the lease ends by then.",
            code="yields",
        )


def _open_lease(vm: VirtualMachine) -> LeaseQuerySet:
    open_vms = VirtualMachine.objects.open().exclude(state="deleting").filter(pk=vm.pk)
    return Lease.objects.all().filter(vm__in=open_vms)


def hold(actor: Actor, vm: VirtualMachine, *, reason: str, seconds: int | None = None) -> Job:
    """Keep a VM for debugging: neither its lease's end nor a token's delete takes it meanwhile.

    For `seconds` from now, at most `LEASE_HOLD_SECONDS`, which is the default; an account holds at
    most `LEASE_HOLD_MAXIMUM` VMs. Holding again replaces reason and end. A person's delete, a drain
    and a revocation take it still. Raises `Invalid`, `Forbidden`, `Conflict`.
    """
    require_use(actor, vm)
    longest = int(settings.LEASE_HOLD_SECONDS)
    seconds = longest if seconds is None else seconds
    if not 1 <= seconds <= longest:
        raise Invalid.field("seconds", f"A VM can be held for 1 to {longest} seconds.")
    reason = reason.strip()
    if not 1 <= len(reason) <= 300:
        raise Invalid.field("reason", "Say why, in at most 300 characters.")
    with transaction.atomic():
        actor.take()
        if refusal := access.why_not_any_more(vm):
            raise Forbidden(refusal, code="grant_revoked")
        _refuse_if_it_yields(vm, seconds)
        if actor.user:  # one hold of an account at a time, so that nobody gets one too many
            list(User.objects.select_for_update(no_key=True).filter(pk=actor.user.pk).only("pk"))
        others = Lease.objects.held().filter(held_by=actor.user).exclude(vm=vm).count()
        if others >= settings.LEASE_HOLD_MAXIMUM:
            raise Forbidden(
                f"You hold {others} VMs already, which is the most. Release one first.",
                code="limit_reached",
            )
        if not _open_lease(vm).update(
            held_until=from_now(seconds), held_by=actor.user, held_reason=reason
        ):
            raise Conflict("This VM cannot be held: it is not running yet, or has ended.")
        data = {"reason": reason, "seconds": seconds}
        change = changed({"held": False}, {"held": True})
        audit(actor, "vm.held", vm.subject, vm.name, data=change | data)
        announce(vm)
        return record_done("vm.hold", vm.subject, actor, result=data)


def release(actor: Actor, vm: VirtualMachine) -> Job:
    """End a hold: a lease whose time is over ends now. Raises `Forbidden`, `Conflict`."""
    require_use(actor, vm)
    with transaction.atomic():
        if (
            not Lease.objects.held()
            .filter(vm=vm)
            .update(held_until=None, held_by=None, held_reason="")
        ):
            raise Conflict("Nobody holds this VM.")
        data = changed({"held": True}, {"held": False})
        audit(actor, "vm.released", vm.subject, vm.name, data=data)
        announce(vm)
        return record_done("vm.release", vm.subject, actor)


def warn() -> int:
    """Tell of leases that end soon, each once; return how many. Safe to run twice at once."""
    told = 0
    for lease in Lease.objects.ending().select_related("vm__template")[:200]:
        with transaction.atomic():
            if Lease.objects.ending().filter(pk=lease.pk).update(warned_at=Now()):
                then = lease.vm.template.lease_end
                _tell(lease.vm, "lease.ending", ends_at=lease.ends_at.isoformat(), then=then)
                told += 1
    return told


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
        _tell(vm, "lease.ended", then=vm.template.lease_end)
        if ends_by_delete:
            end(vm, reason="Its lease ended.")
        elif vm.state in {State.RUNNING, State.PAUSED}:
            if vm.template.lease_end == LeaseEnd.STOP:
                verbs.stop(SYSTEM, vm)
            else:
                verbs.suspend(SYSTEM, vm)
    return True
