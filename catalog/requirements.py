"""Who an image is open to: those who have any of its required roles and any of its claims.

A claim of the contract is a free word. An account has it when a role of that name is its own, or a
permission of ours is called so; rooms above may know of more (`register`).
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Protocol

from django.db.models import Exists, OuterRef, Q, Value
from django.db.models.functions import Replace, Upper

from accounts.models import Role

if TYPE_CHECKING:
    from collections.abc import Collection

    from accounts.actors import Actor
    from catalog.models import ImageQuerySet


class ClaimsWith(Protocol):
    def __call__(self, permissions: frozenset[str]) -> Collection[str]: ...


_known: list[ClaimsWith] = []


def register(claims_with: ClaimsWith) -> None:
    """Add how one room above tells which claims somebody with some permissions has."""
    _known.append(claims_with)


def word(name: str) -> str:
    """Return a role or claim as it is compared: `iOS team` is `IOS_TEAM`."""
    return re.sub(r"[ .-]", "_", name.strip()).upper()


def roles_of(actor: Actor) -> set[str]:
    """Return the roles of an actor as words; queries once."""
    if actor.user is None:
        return set()
    names = Role.objects.of(actor.user.pk).values_list("group__name", flat=True)
    return {word(name) for name in names}


def claims_of(actor: Actor, roles: Collection[str]) -> set[str]:
    """Return the claims of an actor who has these `roles`, as words."""
    return claims_with(roles, actor.permissions)


def claims_with(roles: Collection[str], permissions: frozenset[str]) -> set[str]:
    """Return the claims of somebody with these roles and permissions, as words."""
    more = {word(claim) for entry in _known for claim in entry(permissions)}
    return {*roles, *map(word, permissions), *more}


def are_met(wanted: Collection[str], has: Collection[str]) -> bool:
    """Return whether any of the `wanted` roles (or claims) is among the words that one `has`.

    Nothing wanted is always met.
    """
    return not wanted or any(word(one) in has for one in wanted)


def open_to(images: ImageQuerySet, actor: Actor) -> ImageQuerySet:
    """Return those of `images` whose required roles and claims the actor meets."""
    from catalog.models import ImageLabel

    roles = roles_of(actor)
    needs = Q()
    for kind, has in (
        (ImageLabel.Kind.ROLE, roles),
        (ImageLabel.Kind.CLAIM, claims_of(actor, roles)),
    ):
        wanted = ImageLabel.objects.filter(image=OuterRef("pk"), kind=kind)
        compared = Upper(_underscored(_underscored(_underscored("name", " "), "."), "-"))
        met = wanted.annotate(word=compared).filter(word__in=has)
        needs &= ~Exists(wanted) | Exists(met)
    return images.filter(needs)


def _underscored(what: str | Replace, character: str) -> Replace:
    return Replace(what, Value(character), Value("_"))
