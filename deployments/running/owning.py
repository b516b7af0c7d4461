"""Whose a task is: taken over, or assigned to somebody else. Its steps act as who started it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from django.db import transaction

from accounts.actors import Actor
from accounts.audit import changed
from accounts.models import User
from deployments import access
from deployments.models.tasks import Task
from deployments.running import rights
from deployments.running.control import told
from deployments.running.moving import locked
from orchestrator.db.locks import take
from orchestrator.refusals import Conflict, Forbidden, Invalid

if TYPE_CHECKING:
    from jobs.models import Job


def take_over(actor: Actor, task: Task) -> Job:
    """Make the actor the owner of `task`. Takes a right of its own, besides that to control it.

    What runs goes on as whoever started it; to act as the new owner it is stopped and continued.
    Raises `Forbidden`, `NotFound`, `Conflict`.
    """
    if actor.user is None:
        raise Forbidden("A task belongs to an account.")
    return _own(actor, task, actor.user, "taken over")


def assign(actor: Actor, task: Task, *, owner: User) -> Job:
    """Make `owner` the owner of `task`, who has to be able to control it. Raises as `take_over`.

    And `Invalid` for somebody who could do nothing with it.
    """
    return _own(actor, task, owner, "assigned")


def _own(actor: Actor, task: Task, owner: User, verb: str) -> Job:
    rights.require_control(actor, task)
    actor.require("deployments.assign")
    with transaction.atomic():
        actor.take()
        actor.require("deployments.assign")
        task = locked(task.pk)
        if task.is_final:
            raise Conflict(f"This task is {task.state}; it stays with who had it.")
        if task.owner_id == owner.pk:
            raise Conflict(f"This task is {owner}’s already.")
        if not take(User.objects.filter(pk=owner.pk, is_active=True)):
            raise Invalid.field("owner", f"The account {owner} is deactivated.")
        theirs = Actor(owner)
        if not (theirs.can("deployments.run") and access.may(theirs, task.environment, "control")):
            raise Invalid.field("owner", f"{owner} may not control this task. Choose another one.")
        before = task.owner.username if task.owner else None
        Task.objects.filter(pk=task.pk).update(owner=owner)
        task.owner = owner
        data = changed({"owner": before}, {"owner": owner.username})
        return told(actor, task, verb, f"from {before or 'nobody'} to {owner}", data=data)
