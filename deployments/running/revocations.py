"""Which tasks a revocation holds: no step of theirs begins any more, see `rights.why_held`.

Nothing is done to them here. Who lets a step in asks again, behind the gate that each revocation
holds; so this says beforehand, and in the audit trail, what that will find.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from django.db.models import Q

from accounts.revocation import Hit
from deployments import access
from deployments.models import EnvironmentAccess, Task
from deployments.states import TaskState

if TYPE_CHECKING:
    from accounts.actors import Actor
    from accounts.revocation import Held, Revoked

UNDER_WAY = (TaskState.SCHEDULED, TaskState.QUEUED, *TaskState.running())


def preview(revoked: Revoked) -> list[Hit]:
    """Return the tasks that act by what is being revoked: a token, an account or its rights."""
    match revoked.kind:
        case "token":
            about = Q(started_with=revoked.id)
        case "user" | "rights":
            about = Q(started_by=revoked.id)
        case _:
            return []
    rows = Task.objects.filter(about, state__in=UNDER_WAY).select_related("started_by")
    tasks = list(rows.select_related("environment").order_by("pk"))
    if revoked.held is not None:
        tasks = [task for task in tasks if not _goes_on(task, revoked.held)]
    return [hit_of(task) for task in tasks]


def apply(revoked: Revoked, running_vms: str, actor: Actor) -> list[Hit]:
    """Return the tasks that hold from now on."""
    return preview(revoked)


def hit_of(task: Task) -> Hit:
    """Return a task that is reached; one that waits does not begin."""
    waits = task.state in (TaskState.SCHEDULED, TaskState.QUEUED)
    owner = task.started_by.username if task.started_by else ""
    return Hit("task", task.pk, task.title, task.state, waits, owner)


def _goes_on(task: Task, held: Held) -> bool:
    """Return whether somebody who has only what is `held` may let `task` go on."""
    environment = task.environment
    if "deployments.run" not in held.permissions:
        return False
    if environment is None or not environment.restricted or access.EVERYWHERE in held.permissions:
        return True
    level = access.CONTROL if task.runs else access.DEPLOY
    listed = Q(user=task.started_by) | Q(role__group__name__in=held.roles)
    lines = EnvironmentAccess.objects.filter(listed, environment=environment)
    return lines.at_least(level).exists()
