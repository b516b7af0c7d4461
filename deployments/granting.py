"""The lists of restricted environments: kept with effect on what runs there already.

Whatever makes a list shorter holds the gate of deployments while it does. No step begins without
that gate, and who begins one looks at the list again (`deployments.running.admitting`): so each
step was let in before, or is held after.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from django.db import transaction
from django.db.models import Q

from accounts.actors import Actor
from accounts.audit import audit, changed
from accounts.models import Role, User
from accounts.revocation import Hit
from deployments import access
from deployments.environments import announce
from deployments.models import Environment, EnvironmentAccess, Task
from deployments.running.admitting import hold_gate
from deployments.running.revocations import UNDER_WAY, hit_of
from jobs.queueing import hurry, record_done
from orchestrator.db.locks import go_first, take
from orchestrator.refusals import Conflict, Invalid, NotFound

if TYPE_CHECKING:
    from jobs.models import Job

VERB = "environment.access"  # the kind of the jobs of verbs that are done at once
Level = EnvironmentAccess.Level


def give(
    actor: Actor,
    *,
    environment: Environment,
    user: User | None = None,
    role: Role | None = None,
    level: str,
) -> EnvironmentAccess:
    """Put an account or a role on the list of `environment`, or change its level there.

    It counts while the environment is restricted. Raises `Forbidden`, `Invalid`, `Conflict`.
    """
    access.require_change(actor, environment)
    if (user is None) == (role is None):
        raise Invalid.field("user", "Name either a user or a role.")
    if level not in Level.values:
        raise Invalid.field("level", f"Choose one of: {', '.join(Level.values)}.")
    with transaction.atomic():
        go_first()
        actor.take()
        access.take_change(actor, environment)
        if user and not take(User.objects.filter(pk=user.pk, is_active=True)):
            raise Invalid.field("user", f"The account {user} is deactivated.")
        if role and not take(Role.objects.filter(pk=role.pk)):
            raise Conflict("This role was deleted just now.")
        rows = EnvironmentAccess.objects.select_for_update(of=("self",))
        line = rows.filter(environment=environment, user=user, role=role).first()
        before = {"level": line.level if line else None}
        if line is None:
            line = EnvironmentAccess(environment=environment, user=user, role=role)
            line.created_by = actor.user
        line.level = level
        hold_gate()
        line.save()
        told = {"to": line.subject_name} | changed(before, {"level": level})
        audit(actor, "environment.access_given", environment.subject, environment.name, data=told)
        announce(environment)
    return line


def impact(actor: Actor, line: EnvironmentAccess) -> list[Hit]:
    """Return the tasks that taking `line` off its list would hold now."""
    _require(actor, line)
    if not line.environment.restricted:
        return []
    return _held(line.environment, but=line)


def revoke(actor: Actor, line: EnvironmentAccess) -> Job:
    """Take an account or a role off the list; return the verb's job, with the tasks that it holds.

    Steps of those tasks that run go on to their end, and none begins any more: the task rests
    until somebody who may continues it. Raises `Forbidden`, `NotFound`.
    """
    _require(actor, line)
    environment = line.environment
    with transaction.atomic():
        go_first()
        actor.take()
        access.take_change(actor, environment)
        rows = EnvironmentAccess.objects.select_for_update(of=("self",))
        if not rows.filter(pk=line.pk).exists():
            raise NotFound("This was taken off the list already.")
        hold_gate()
        hits = _held(environment, but=line) if environment.restricted else []
        line_id = line.pk
        EnvironmentAccess.objects.filter(pk=line_id).delete()
        hurry([str(hit) for hit in hits])
        data = {"from": line.subject_name, "level": line.level, "hit": [str(hit) for hit in hits]}
        audit(actor, "environment.access_revoked", environment.subject, environment.name, data=data)
        announce(environment)
        return record_done(VERB, environment.subject, actor, result=data)


def restriction_impact(actor: Actor, environment: Environment) -> list[Hit]:
    """Return the tasks that restricting `environment` would hold now."""
    access.require_change(actor, environment)
    return _held(environment)


def restrict(actor: Actor, environment: Environment, *, restricted: bool = True) -> Job:
    """Let only those on its list act in `environment`; or again whoever has a role that may.

    Whoever restricts it is put on the list to administer it, unless they are already or may act
    everywhere. Returns the verb's job, with the tasks that this holds. Raises `Forbidden`,
    `Conflict` when it is so already.
    """
    access.require_change(actor, environment)
    with transaction.atomic():
        go_first()
        actor.take()
        # No key of it changes: tasks that are made for it meanwhile need not wait.
        locked = Environment.objects.select_for_update(no_key=True).get(pk=environment.pk)
        access.take_change(actor, locked)
        if locked.restricted == restricted:
            raise Conflict(f"{locked} is {'restricted' if restricted else 'open'} already.")
        hold_gate()
        locked.restricted = restricted
        locked.save(update_fields=["restricted"])
        environment.restricted = restricted
        if restricted and not access.may(actor, locked, access.ADMINISTER):
            EnvironmentAccess.objects.update_or_create(
                environment=locked,
                user=actor.user,
                role=None,
                defaults={"level": Level.ADMINISTER, "created_by": actor.user},
            )
        hits = _held(locked) if restricted else []
        hurry([str(hit) for hit in hits])
        data = {"hit": [str(hit) for hit in hits]}
        told = changed({"restricted": not restricted}, {"restricted": restricted}) | data
        verb = "environment.restricted" if restricted else "environment.opened"
        audit(actor, verb, locked.subject, locked.name, data=told)
        announce(locked)
        return record_done(VERB, locked.subject, actor, result=data)


def _require(actor: Actor, line: EnvironmentAccess) -> None:
    if not EnvironmentAccess.objects.visible_to(actor).filter(pk=line.pk).exists():
        raise NotFound("There is no such line.")
    access.require_change(actor, line.environment)


def _held(environment: Environment, *, but: EnvironmentAccess | None = None) -> list[Hit]:
    """Return the tasks whose starter is not on the list, with `but` taken off it."""
    rows = Task.objects.filter(environment=environment, state__in=UNDER_WAY)
    lines = EnvironmentAccess.objects.filter(environment=environment)
    if but:
        lines = lines.exclude(pk=but.pk)
        if but.user_id:
            rows = rows.filter(started_by=but.user_id)
        else:
            rows = rows.filter(Q(started_by__groups__role=but.role_id))
    found = []
    for task in rows.select_related("started_by", "started_with").order_by("pk"):
        starter = Actor(user=task.started_by, token=task.started_with)
        level = access.CONTROL if task.runs else access.DEPLOY
        if starter.can(access.EVERYWHERE) or lines.reaching(starter).at_least(level).exists():
            continue
        found.append(hit_of(task))
    return found
