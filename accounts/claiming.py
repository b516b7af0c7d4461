"""Claims given to a role and taken from it: a permission of the role, by its name on the wire."""

from __future__ import annotations

from typing import TYPE_CHECKING

from django.contrib.auth.models import Group
from django.db import transaction

from accounts import custom_roles
from accounts.claims import CLAIMS, WIRE_ROLES, Claim
from accounts.models import Role
from orchestrator.refusals import Conflict, Invalid, NotFound

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from accounts.actors import Actor


def find_claim(name: str) -> Claim:
    """Return the claim of this name, in any case. Raises `NotFound`."""
    claim = CLAIMS.get(name.upper())
    if claim is None:
        raise NotFound(f"There is no claim “{name}”. Claims are fixed: list them to choose one.")
    return claim


def permissions_for(names: Iterable[str]) -> list[str]:
    """Return the permissions that give these claims. Raises `Invalid` for one that is not here."""
    found: set[str] = set()
    for name in names:
        claim = CLAIMS.get(name.upper())
        if claim is None or not claim.offered:
            raise Invalid.field(
                "claims",
                f"There is no claim “{name}” that a role could have. Claims are fixed: list them "
                "to choose one.",
            )
        found.update(claim.permissions[:1])
    return sorted(found)


def create_role(actor: Actor, *, name: str, claims: Iterable[str]) -> Role:
    """Make a role that gives these claims. Raises as `custom_roles.create_role`, and `Invalid`."""
    if name.strip().upper() in WIRE_ROLES:
        raise Conflict("A role of this name exists. Choose another name.", code="name_taken")
    return custom_roles.create_role(actor, name=name, permissions=permissions_for(claims))


def give_claim(actor: Actor, role: Role, name: str) -> Claim:
    """Let `role` give the claim. Raises as `custom_roles.change_role`, and `Invalid`."""
    wanted = permissions_for([name])
    if wanted:
        _change(actor, role, lambda held: held | set(wanted))
    return find_claim(name)


def take_claim(actor: Actor, role: Role, name: str) -> None:
    """Take the claim from `role`, and with it all claims that rest on the same permissions.

    Raises as `custom_roles.change_role`; `Conflict` for what every account has.
    """
    claim = find_claim(name)
    if claim.free:
        raise Conflict(f"Every account holds {claim.name} for what is its own.")
    _change(actor, role, lambda held: held - set(claim.permissions))


def _change(actor: Actor, role: Role, change: Callable[[set[str]], set[str]]) -> None:
    actor.require("accounts.manage")
    with transaction.atomic():
        # Read and written as one: two claims given at once are both there.
        Group.objects.select_for_update().filter(pk=role.group_id).first()
        held = Role.objects.filter(pk=role.pk).values_list("permissions", flat=True).first()
        if held is None:
            raise NotFound("There is no such role.")
        custom_roles.change_role(actor, role, permissions=change(set(held)))
