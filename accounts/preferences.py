"""What an account keeps for the pages of a client: made, changed, dropped, each by its owner.

Not audited: a layout decides nothing, and consoles store it at each drag of a column.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any
from uuid import UUID

from django.db import transaction

from accounts.models import Preference, User
from orchestrator.refusals import Conflict, Forbidden, Invalid, NotFound

if TYPE_CHECKING:
    from accounts.actors import Actor

MOST = 200  # for one account
LONGEST = 64 * 1024  # characters of a value


def find(actor: Actor, reference: str) -> Preference:
    """Return the actor's preference of this slug or id. Raises `NotFound`."""
    mine = Preference.objects.filter(user=actor.user_id)
    found = mine.filter(slug=reference).first()
    if found is None:
        try:
            found = mine.filter(pk=UUID(reference)).first()
        except ValueError:
            found = None
    if found is None:
        raise NotFound(f"You have no preference “{reference}”. Create it first.")
    return found


def store(
    actor: Actor, *, slug: str, name: str = "", kind: str = "", value: Any = None
) -> tuple[Preference, bool]:
    """Make the preference `slug`, or change it; return it and whether it was made.

    Left-out fields stay as they are. Raises `Invalid`, or `Conflict` for one too many.
    """
    if actor.user is None:
        raise Forbidden("Sign in first.")
    slug = slug.strip()
    if not 1 <= len(slug) <= 100:
        raise Invalid.field("slug", "Give a slug of at most 100 characters.")
    with transaction.atomic():
        User.objects.select_for_update().get(pk=actor.user.pk)  # counts and writes as one
        found = Preference.objects.filter(user=actor.user, slug=slug).first()
        if found is None and Preference.objects.filter(user=actor.user).count() >= MOST:
            raise Conflict(f"An account keeps at most {MOST} preferences. Delete one first.")
        row = found or Preference(user=actor.user, slug=slug, kind=Preference.Kind.STRING)
        row.name = (name or row.name or slug)[:200]
        row.kind = _checked_kind(kind or row.kind)
        if value is not None:
            row.value = _checked_value(row.kind, value)
        row.save()
    return row, found is None


def drop(actor: Actor, reference: str) -> None:
    """Delete the actor's preference of this slug or id. Raises `NotFound`."""
    find(actor, reference).delete()


def _checked_kind(kind: str) -> str:
    if kind not in Preference.Kind.values:
        raise Invalid.field("type", f"Choose a type: {', '.join(Preference.Kind.values)}.")
    return kind


def _checked_value(kind: str, value: Any) -> str:
    text = value if isinstance(value, str) else json.dumps(value)
    if len(text) > LONGEST:
        raise Invalid.field("value", f"A value has at most {LONGEST} characters.")
    if "\0" in text:
        raise Invalid.field("value", "A value is text: it holds no NUL.")
    try:
        if kind == Preference.Kind.JSON:
            json.loads(text)
        elif kind == Preference.Kind.INT:
            int(text)
        elif kind == Preference.Kind.BOOL and text.lower() not in ("true", "false"):
            raise ValueError
    except (ValueError, RecursionError):
        raise Invalid.field("value", f"This is no value of the type {kind}.") from None
    return text
