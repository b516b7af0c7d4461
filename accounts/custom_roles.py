"""Roles of one's own: made, changed, deleted. Shipped ones stay as they are.

Nothing is cached, so a change counts with the next request. What a change takes away is reached as
a revocation reaches it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from django.contrib.auth.models import Group
from django.db import IntegrityError, transaction

from accounts import revocation
from accounts.audit import audit
from accounts.escalation import refuse_giving
from accounts.models import Role, User
from accounts.permissions import PERMISSIONS
from accounts.users import HEAVIEST, askers, held_by, revoke_lost
from events.publishing import publish
from orchestrator.db.locks import go_first
from orchestrator.refusals import Conflict, Invalid

if TYPE_CHECKING:
    from collections.abc import Collection

    from accounts.actors import Actor
    from accounts.revocation import Hit

SHIPPED = "Shipped roles stay as they are. Make a role of your own instead."


def create_role(
    actor: Actor, *, name: str, permissions: Collection[str] = (), weight: int = 1
) -> Role:
    """Make a role with single permissions. Raises `Forbidden`, `Invalid`, or `Conflict`."""
    actor.require("accounts.manage")
    name, codes = _checked_name(name), _checked_codes(permissions)
    if not 1 <= weight <= HEAVIEST:
        raise Invalid.field("weight", f"Give a number from 1 to {HEAVIEST}.")
    with transaction.atomic():
        actor.take()
        actor.require("accounts.manage")
        refuse_giving(actor, codes)
        _refuse_taken(name)
        try:
            with transaction.atomic():
                group = Group.objects.create(name=name)
        except IntegrityError:
            raise _taken() from None
        role = Role.objects.create(group=group, permissions=codes, weight=weight)
        audit(
            actor,
            "role.created",
            f"role:{role.pk}",
            name,
            data={"permissions": codes, "weight": weight},
        )
        _announce(role, "created")
    return role


def change_role(
    actor: Actor,
    role: Role,
    *,
    name: str | None = None,
    permissions: Collection[str] | None = None,
    running_vms: str = "keep",
) -> list[Hit]:
    """Rename a role, or give it exactly these permissions; return what that reached.

    Members who may not ask for VMs any more lose what they have queued; `running_vms` says what
    becomes of their VMs. Raises `Forbidden`, `Invalid`, or `Conflict` for a shipped role.
    """
    running_vms = revocation.check_choice(running_vms)
    actor.require("accounts.manage")
    if role.shipped:
        raise Conflict(SHIPPED)
    with transaction.atomic():
        members = _lock(role)
        actor.take()
        actor.require("accounts.manage")
        locked = Role.objects.select_related("group").get(pk=role.pk)
        before = {"name": locked.name, "permissions": locked.permissions}
        able = askers(members)
        if name is not None and (name := _checked_name(name)) != locked.name:
            _refuse_taken(name, but=locked)
            locked.group.name = name
            locked.group.save(update_fields=["name"])
        if permissions is not None:
            codes = _checked_codes(permissions)
            refuse_giving(actor, set(codes) - set(locked.permissions))
            locked.permissions = codes
            locked.save(update_fields=["permissions"])
        hits = revoke_lost(actor, members, able, running_vms)
        audit(
            actor,
            "role.changed",
            f"role:{role.pk}",
            locked.name,
            data={
                "before": before,
                "after": {"name": locked.name, "permissions": locked.permissions},
                "hit": [str(hit) for hit in hits],
            },
        )
        _announce(locked, "changed")
    return hits


def delete_role(actor: Actor, role: Role, *, running_vms: str = "keep") -> list[Hit]:
    """Delete a role with its grants and quota; return what that reached.

    What rests on its grants, and what members have who may not ask for VMs any more, is reached as
    a revocation reaches it. Raises `Forbidden`, or `Conflict` for a shipped role.
    """
    running_vms = revocation.check_choice(running_vms)
    actor.require("accounts.manage")
    if role.shipped:
        raise Conflict(SHIPPED)
    with transaction.atomic():
        members = _lock(role)
        actor.take()
        actor.require("accounts.manage")
        able = askers(members)
        hits = revocation.apply(revocation.Revoked("role", role.pk), running_vms, actor)
        data = {"permissions": role.permissions, "members": len(members)}
        subject, name = f"role:{role.pk}", role.name
        Group.objects.filter(pk=role.group_id).delete()  # and with it role, grants and quota
        hits = revocation.once(hits + revoke_lost(actor, members, able, running_vms))
        audit(actor, "role.deleted", subject, name, data=data | {"hit": [str(hit) for hit in hits]})
        publish("role.deleted", subject, {"name": name}, permission="accounts.view")
    return hits


def preview_losing(
    role: Role, *, deleting: bool, permissions: Collection[str] | None = None
) -> list[Hit]:
    """Return what deleting `role`, or giving it exactly these permissions, would hit now.

    Without them it is the most that a change of it can reach.
    """
    hits = revocation.preview(revocation.Revoked("role", role.pk)) if deleting else []
    members = list(role.group.user_set.order_by("pk"))
    for user_id, held in held_by(members, but=role).items():
        if permissions is not None and not deleting:  # it keeps its name, and gives these
            kept = frozenset(permissions) | held.permissions
            held = revocation.Held(held.roles | {role.name}, kept)
        hits += revocation.preview(revocation.Revoked("rights", user_id, held=held))
    if "vms.use" in role.permissions and "vms.use" not in (permissions or ()):
        able = {
            pk
            for pk, codes in Role.objects.exclude(pk=role.pk)
            .filter(group__user__groups__role=role)
            .values_list("group__user", "permissions")
            if "vms.use" in codes
        }
        for user_id in role.group.user_set.exclude(pk__in=able).values_list("pk", flat=True):
            hits += revocation.preview(revocation.Revoked("use", user_id))
    return revocation.once(hits)


def _lock(role: Role) -> list[User]:
    """Lock the accounts that have the role, in id order, and return them.

    A request takes its account first and then looks at its roles: it either came before this and
    is reached, or waits and finds the role as it is by then.
    """
    go_first()
    # With the group locked nobody can be given the role until this is done.
    if not Group.objects.select_for_update().filter(pk=role.group_id).first():
        raise Conflict("This role was deleted meanwhile.")
    return list(User.objects.select_for_update().filter(groups=role.group_id).order_by("pk"))


def _checked_name(name: str) -> str:
    name = name.strip()
    if not 1 <= len(name) <= 100:
        raise Invalid.field("name", "Give the role a name of at most 100 characters.")
    return name


def _checked_codes(permissions: Collection[str]) -> list[str]:
    if unknown := sorted(set(permissions) - PERMISSIONS.keys()):
        raise Invalid.field(
            "permissions",
            f"There is no permission {', '.join(unknown)}. Choose of: {', '.join(PERMISSIONS)}.",
        )
    return sorted(set(permissions))


def _refuse_taken(name: str, but: Role | None = None) -> None:
    others = Group.objects.filter(name__iexact=name)
    if but is not None:
        others = others.exclude(pk=but.group_id)
    if others.exists():
        raise _taken()


def _taken() -> Conflict:
    text = "A role of this name exists. Choose another name."
    return Conflict(text, code="name_taken", errors={"name": [text]})


def _announce(role: Role, what: str) -> None:
    publish(f"role.{what}", f"role:{role.pk}", {"name": role.name}, permission="accounts.view")
