"""How revoking a grant, token, role, user, template or image reaches VMs."""

from __future__ import annotations

from contextlib import suppress
from typing import TYPE_CHECKING

from django.db import transaction
from django.db.models import Q

from accounts.actors import SYSTEM
from accounts.audit import audit
from accounts.revocation import Hit, Revoked
from jobs.models import Job
from jobs.queueing import end_parked, request_cancel
from orchestrator.refusals import Conflict
from vms import access, ending, openness, verbs
from vms.lifecycle import cancel_waiting
from vms.models import Grant, VirtualMachine
from vms.states import State

if TYPE_CHECKING:
    from uuid import UUID

    from django.db.models import QuerySet

    from accounts.actors import Actor
    from accounts.revocation import Held
    from catalog.models import Image

# What a revocation may still cancel of a running VM's jobs. Never a stop or a delete.
CANCELLED_KINDS = ("vm.execute", "vm.upload", "vm.write", "vm.start")
BATCH = 1000  # waiting VMs cancelled by one statement


def preview(revoked: Revoked) -> list[Hit]:
    """Return the VMs that revoking would hit."""
    return [_hit(vm) for vm in _reached(revoked)]


def preview_grants(grants: list[Grant]) -> list[Hit]:
    """Return the VMs that revoking all of these grants would hit: one query."""
    return [_hit(vm) for vm in _open(Q(grant__in=grants))]


def apply(revoked: Revoked, running_vms: str, actor: Actor) -> list[Hit]:
    """Cancel what is queued; keep, stop or delete what exists. The revoked row is locked."""
    if revoked.kind == "role":  # its grants, before the VMs: a VM's end locks them in this order
        list(Grant.objects.select_for_update().filter(role=revoked.id).order_by("pk"))
    what = _WHAT.get(revoked.kind, revoked.kind)
    done = "narrowed" if revoked.kind == "narrowing" else "revoked"
    reason = f"Its {what} was {done} by {actor.name}."
    return _apply(list(_reached(revoked)), running_vms, reason)


_WHAT = {
    "use": "owner's right to ask for VMs",
    "rights": "owner's right to its image",
    "narrowing": "token",
}


def _reached(revoked: Revoked) -> QuerySet[VirtualMachine]:
    if revoked.kind == "rights":
        return _open(Q(pk__in=_closed(Q(requested_by=revoked.id), revoked.held)))
    if revoked.kind == "membership":
        about = Q(grant__role=revoked.id, requested_by=revoked.user_id)
    elif revoked.kind == "narrowing":
        about = _outside(revoked)
    else:
        about = {
            "grant": Q(grant=revoked.id),
            "token": Q(token=revoked.id),
            "user": Q(requested_by=revoked.id),
            "use": Q(requested_by=revoked.id),
            "role": Q(grant__role=revoked.id),
            "template": Q(template=revoked.id),
            "image": Q(placements__image=revoked.id, placements__current=True)
            | Q(state=State.PENDING, template__images=revoked.id),
        }[revoked.kind]
    return _open(about)


def _closed(about: Q, held: Held | None = None) -> list[UUID]:
    """Return which VMs rest on no grant, and not on an image that is open to their owner either."""
    rows = (
        _open(about & Q(grant=None, template__of_image__isnull=False))
        .select_related("template__of_image", "requested_by", "token")
        .prefetch_related("template__of_image__labels")
    )
    return [vm.pk for vm in rows if not openness.stays_open(vm, held)]


def _outside(revoked: Revoked) -> Q:
    """Return the condition on VMs of a token that it may not have within its bounds."""
    mine, bounds = Q(token=revoked.id), revoked.bounds
    if not bounds.vms:
        return mine
    outside = Q(pk__in=_closed(mine))  # scopes may have been what an image requires
    if bounds.templates is not None:
        outside |= mine & ~Q(template__in=bounds.templates)
    if bounds.maximum_vms is None:
        return outside
    left = VirtualMachine.objects.open().filter(mine).exclude(outside)
    surplus = max(0, left.count() - bounds.maximum_vms)
    waiting = left.filter(state=State.PENDING).order_by("-pk")
    return outside | Q(pk__in=list(waiting.values_list("pk", flat=True)[:surplus]))


def _open(about: Q) -> QuerySet[VirtualMachine]:
    return (
        VirtualMachine.objects.open()
        .exclude(state=State.DELETING)
        .filter(about)
        .select_related("template", "requested_by", "create_job", "host")
        .distinct()
        .order_by("id")
    )


def _hit(vm: VirtualMachine) -> Hit:
    return Hit(
        kind="vm",
        id=vm.pk,
        name=vm.name,
        state=vm.state,
        queued=vm.state in State.queued(),
        owner=vm.requested_by.username if vm.requested_by else "",
    )


def _apply(vms: list[VirtualMachine], running_vms: str, reason: str) -> list[Hit]:
    hits = [_hit(vm) for vm in vms]
    cancelled = _cancel_waiting([vm for vm in vms if vm.state == State.PENDING], reason)
    for vm in vms:
        if vm.pk in cancelled:
            continue
        queued = vm.state in State.queued()
        ends = queued or running_vms == "delete"
        if ends:
            ending.end(vm, SYSTEM, reason=reason)
        for job in Job.objects.open().about(vm.subject).filter(kind__in=CANCELLED_KINDS):
            request_cancel(job, reason=reason)
        if running_vms == "stop" and not ends:
            # One that does not run has nothing to stop, and is kept.
            with suppress(Conflict):
                verbs.stop(SYSTEM, vm, force=True)
    return hits


def _cancel_waiting(vms: list[VirtualMachine], reason: str) -> set[UUID]:
    """Cancel at once what waits for a host: a queue may be long, and its grant is locked."""
    cancelled: set[UUID] = set()
    for start in range(0, len(vms), BATCH):
        batch = vms[start : start + BATCH]
        moved = cancel_waiting(batch, reason)
        jobs = {vm.create_job.pk: vm.create_job for vm in batch if vm.pk in moved and vm.create_job}
        ended = end_parked(jobs.keys(), reason=reason)
        for job_id in sorted(jobs.keys() - ended):  # just woken: its handler finds it cancelled
            request_cancel(jobs[job_id], reason=reason)
        cancelled |= moved
    return cancelled


def preview_image(image: Image, verb: str) -> list[Hit]:
    """Return the VMs that tainting, revoking or deleting an image would hit."""
    return [_hit(vm) for vm in _image_reached(image, verb)]


def apply_image(image: Image, verb: str, running_vms: str, actor: Actor) -> list[Hit]:
    """Reach the VMs of an image. A taint stops only what has no other image to be made from.

    `close` reaches what the image is not open to any more: it requires other roles or claims.
    """
    reason = f"Its image was {_DONE[verb]} by {actor.name}."
    return _apply(_image_reached(image, verb), running_vms, reason)


_DONE = {"taint": "tainted", "revoke": "revoked", "remove": "deleted", "close": "closed"}


def _image_reached(image: Image, verb: str) -> list[VirtualMachine]:
    if verb == "close":
        return list(_open(Q(pk__in=_closed(Q(template__of_image=image.pk)))))
    reached = list(_reached(Revoked("image", image.pk)))
    # A pending VM whose template has another usable image waits on for that one.
    return [
        vm
        for vm in reached
        if (verb == "revoke" and vm.state != State.PENDING)
        or (
            vm.state == State.PENDING
            and not vm.template.images.usable().exclude(pk=image.pk).exists()
        )
    ]


def end_expired() -> int:
    """Act on grants whose expiry has come: queued work is cancelled, running VMs are kept.

    Returns how many grants. Safe to run twice at once.
    """
    acted = 0
    for grant in Grant.objects.filter(access.expired_grants())[:200]:
        with transaction.atomic():
            locked = Grant.objects.select_for_update().filter(pk=grant.pk)
            if not locked.filter(access.expired_grants()).update(expiry_applied=True):
                continue
            hits = apply(Revoked("grant", grant.pk), "keep", SYSTEM)
            audit(
                SYSTEM,
                "grant.expired",
                f"grant:{grant.pk}",
                str(grant),
                data={"hit": [str(hit) for hit in hits]},
            )
            acted += 1
    return acted
