"""The queue as people see it: holding it, and where each pending VM stands."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING
from uuid import UUID

from django.db import transaction
from django.db.models.functions import Now

from accounts.audit import audit, changed
from events.publishing import publish
from jobs import bell
from jobs.queueing import record_done
from orchestrator.refusals import Conflict, Invalid
from vms.lifecycle import PLACER
from vms.models import QueueState, VirtualMachine

if TYPE_CHECKING:
    from accounts.actors import Actor
    from jobs.models import Job

SUBJECT = "queue:all"


def state() -> QueueState:
    """Return the one row about the queue."""
    found = QueueState.objects.select_related("held_by").filter(pk=QueueState.ONLY).first()
    return found or QueueState(pk=QueueState.ONLY)


def hold(actor: Actor, *, note: str) -> Job:
    """Hold the queue: pending VMs wait, with `note` as the reason. Again replaces the note.

    What has a host already goes on. Raises `Forbidden`, `Invalid` without a note.
    """
    actor.require("vms.manage_all")
    note = note.strip()
    if not 1 <= len(note) <= 300:
        raise Invalid.field("note", "Say why, in at most 300 characters: everybody who waits sees.")
    return _set(actor, "queue.hold", "The queue is held.", held_by=actor.user, note=note)


def release(actor: Actor) -> Job:
    """Let the queue go on. Raises `Forbidden`, or `Conflict` when it is not held."""
    actor.require("vms.manage_all")
    if state().held_at is None:
        raise Conflict("The queue is not held.")
    return _set(actor, "queue.release", "The queue goes on.", held_at=None, held_by=None, note="")


def _set(actor: Actor, action: str, message: str, **values: object) -> Job:
    values.setdefault("held_at", Now())
    with transaction.atomic():
        actor.take()
        QueueState.objects.get_or_create(pk=QueueState.ONLY)
        before = state()
        QueueState.objects.filter(pk=QueueState.ONLY).update(**values)
        data = changed(
            {"held": before.held_at is not None, "note": before.note},
            {"held": values["held_at"] is not None, "note": values["note"]},
        )
        audit(actor, action, SUBJECT, "queue", data=data)
        publish("queue.changed", "queue", {"note": values["note"]}, permission="vms.view_all")
        bell.ring_tick(PLACER)
        return record_done(action, SUBJECT, actor, message=message)


@dataclass(frozen=True)
class Place:
    """Where a pending VM stood at the last pass; `room_at` is when leases make room for it."""

    position: int
    room_at: datetime | None


def places() -> dict[UUID, Place]:
    """Return where each pending VM stands. A VM that was asked for just now is not in it."""
    return {
        UUID(vm): Place(number, datetime.fromisoformat(at) if at else None)
        for number, (vm, at) in enumerate(state().standings, start=1)
    }


def note_standings(order: list[tuple[UUID, datetime | None]]) -> None:
    """Store where each pending VM stands, if that changed. The VMs' own events tell of it."""
    standings = [[str(vm), at.isoformat(timespec="seconds") if at else None] for vm, at in order]
    row = QueueState.objects.filter(pk=QueueState.ONLY)
    before = row.values_list("standings", flat=True).first()
    if before == standings or (before is None and not standings):
        return
    if before is None:
        QueueState.objects.get_or_create(pk=QueueState.ONLY)
    row.update(standings=standings)


def overdue() -> list[VirtualMachine]:
    """Return the pending VMs that have waited as long as they were to."""
    late = VirtualMachine.objects.pending().filter(waits_until__lte=Now())
    return list(late.select_related("create_job"))
