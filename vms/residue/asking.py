"""What people may do about a residue: remove what is ours, and have looked again."""

from __future__ import annotations

from typing import TYPE_CHECKING

from django.db import transaction

from accounts.audit import audit
from jobs.queueing import enqueue
from orchestrator.refusals import Conflict
from vms.models import Residue
from vms.residue import recording

if TYPE_CHECKING:
    from accounts.actors import Actor
    from jobs.models import Job


def fix(actor: Actor, residue: Residue) -> Job:
    """Remove from its host what a VM left there; only what carries our mark.

    Twice is the same job. Raises `Forbidden`, or `Conflict` when it is not ours, is gone already,
    or its host was removed.
    """
    actor.require("vms.manage_all")
    placement = residue.receipt.placement
    with transaction.atomic():
        _require_there(residue)
        if not residue.ours:
            raise Conflict(
                "This does not carry our mark, so it may be somebody else's. Look at it on the "
                "host, remove it there if it is not needed, and check again here.",
                code="not_ours",
            )
        job = enqueue(
            "residue.fix",
            placement.vm.subject,
            actor,
            payload={"residue": str(residue.pk)},
            lane=placement.host.lane,
            unique_key=f"residue.fix:{residue.pk}",
        )
        Residue.objects.filter(pk=residue.pk).update(job=job)
        audit(
            actor,
            "vm.residue_fix_requested",
            placement.vm.subject,
            placement.vm.name,
            data={"residue": residue.detail},
        )
    return job


def check(actor: Actor, residue: Residue) -> Job:
    """Look again whether it is still there, and what else is. Raises `Forbidden`, `Conflict`."""
    actor.require("vms.manage_all")
    with transaction.atomic():
        _require_there(residue)
        vm = residue.receipt.placement.vm
        data = {"residue": residue.detail}
        audit(actor, "vm.residue_check_requested", vm.subject, vm.name, data=data)
        return recording.request_check(residue.receipt.placement, actor)


def _require_there(residue: Residue) -> None:
    host = residue.receipt.placement.host
    if host.removed_at:
        raise Conflict(f"{host.name} was removed, so nobody reaches this. Enrol the host again.")
    if residue.fixed_at:
        raise Conflict("This is gone already.")
