"""Load balancers of an environment: by which scripts members leave the pool and come back."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from django.db import transaction

from deployments import access, environments
from deployments.models import Environment
from orchestrator.refusals import Conflict, NotFound

if TYPE_CHECKING:
    from collections.abc import Mapping

    from accounts.actors import Actor


def set_balancer(
    actor: Actor, environment: Environment, name: str, balancer: Mapping[str, Any], *, old: str = ""
) -> Environment:
    """Make or change a balancer: `vm`, `disable`, `enable`, `timeout_seconds`.

    `old` is the one that is changed, perhaps to another name; members that name it follow. Raises
    `Forbidden`, `Invalid`, `NotFound`, and `Conflict` when another one has the name.
    """
    access.require_change(actor, environment)
    with transaction.atomic():
        actor.take()
        there = dict(Environment.objects.select_for_update().get(pk=environment.pk).balancers)
        if old and old not in there:
            raise NotFound(f"There is no balancer {old} here any more.")
        if name != old and name in there:
            text = f"There is a balancer {name} here already."
            raise Conflict(text, errors={"name": [text]})
        kept = {(name if one == old else one): value for one, value in there.items()}
        kept[name] = dict(balancer)
        if old and old != name:
            environment.members.filter(balancer=old).update(balancer=name)
        return environments.update_environment(actor, environment, balancers=kept)


def remove_balancer(actor: Actor, environment: Environment, name: str) -> Environment:
    """Remove a balancer. For members that name it, a person is asked from now on."""
    access.require_change(actor, environment)
    with transaction.atomic():
        actor.take()
        there = dict(Environment.objects.select_for_update().get(pk=environment.pk).balancers)
        if there.pop(name, None) is None:
            raise NotFound(f"There is no balancer {name} here any more.")
        return environments.update_environment(actor, environment, balancers=there)
