"""The templates that a deployment makes VMs from: found by name, and the right to use them."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from deployments.planning import Operation
from deployments.prepared import DeltaView
from orchestrator.refusals import Forbidden, Invalid
from vms.models import Grant, Template

if TYPE_CHECKING:
    from accounts.actors import Actor


def find(actor: Actor, delta: DeltaView) -> DeltaView:
    """Return the delta with the id of its template, and as a change when that is another one.

    Raises `Invalid` when there is no such template, `Forbidden` without a grant to use it: looked
    at when a deployment is prepared, started and continued.
    """
    value = delta.value
    if value is None or value.type != "vm":
        return delta
    name = value.properties["template"]
    template = Template.objects.visible_to(actor).live().filter(name__iexact=name).first()
    if template is None:
        raise Invalid.field(
            "template", f"There is no template “{name}” that you may see, for {delta.deployed}."
        )
    granted = Grant.objects.live().for_user(actor.user_id).filter(template=template)
    new = replace(value, properties={**value.properties, "template_id": str(template.pk)})
    found = replace(delta, value=new)
    if delta.operation is Operation.NOOP and not found.differences:
        return found
    if not actor.may_use_template(template.pk) or not granted.exists():
        raise Forbidden(
            f"You have no grant to use the template {template.name}, which {delta.deployed} is"
            " made from. Ask its owner for one.",
            code="level_too_low",
        )
    if delta.operation is Operation.NOOP:
        return replace(found, operation=Operation.MODIFY)
    return found
