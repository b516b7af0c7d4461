"""Taking ended jobs off the list of an API that has no history. They stay in the product's own."""

from __future__ import annotations

from typing import TYPE_CHECKING

from django.db.models.functions import Now

from jobs.models import Job
from orchestrator.refusals import Conflict

if TYPE_CHECKING:
    from accounts.actors import Actor


def dismiss(actor: Actor, job: Job) -> None:
    """Take an ended job off the list; nothing is cancelled by it.

    Raises `Forbidden` for somebody else's without the right to manage all VMs, and `Conflict` while
    it is under way.
    """
    if job.actor_id != actor.user_id or not actor.can("vms.use"):
        actor.require("vms.manage_all")
    ended = Job.objects.filter(pk=job.pk, state__in=Job.State.final())
    if not ended.update(dismissed_at=Now()):
        raise Conflict("This job is under way. Wait for it to end, or cancel it.")


def dismiss_ended(actor: Actor) -> int:
    """Take the actor's own jobs that have ended off the list; return how many."""
    actor.require("vms.use")
    mine = Job.objects.filter(actor=actor.user, state__in=Job.State.final(), dismissed_at=None)
    return mine.update(dismissed_at=Now())
