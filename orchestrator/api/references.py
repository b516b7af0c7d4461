"""A reference in a request: the id of an object, or its name."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any
from uuid import UUID

from orchestrator.refusals import Invalid

if TYPE_CHECKING:
    from django.db.models import QuerySet


def as_id(reference: str) -> UUID | None:
    """Return the reference as an id, or None when it is not one."""
    try:
        return UUID(reference)
    except ValueError:
        return None


def readable(text: str, *, field: str) -> str:
    """Return what a query said, or raise `Invalid`: no store can look for a null character."""
    if "\0" in text:
        raise Invalid.field(field, "Null characters are not allowed.")
    return text


def lookup(rows: QuerySet[Any], reference: str, *, name: str = "name") -> Any | None:
    """Return the row of `rows` that `reference` means, or None. An id wins over a name."""
    pk = as_id(reference)
    found = rows.filter(pk=pk).first() if pk else None
    return found or rows.filter(**{f"{name}__iexact": reference}).order_by("-pk").first()


def resolve(rows: QuerySet[Any], reference: str, *, field: str, name: str = "name") -> Any:
    """Return the row of `rows` that `reference` means. Raises `Invalid` for `field`."""
    found = lookup(rows, reference, name=name)
    if found is None:
        noun = rows.model._meta.verbose_name
        raise Invalid.field(field, f"There is no {noun} “{reference}” that you may see.")
    return found
