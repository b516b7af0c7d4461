"""Marking cached copies that are about to be deleted, unless something relies on them.

One UPDATE finds what nothing relies on and marks it, holding the host's capacity row, which every
placement changes first. So each create is either seen by the mark, or sees it and waits.
"""

from __future__ import annotations

from functools import reduce
from operator import or_
from typing import TYPE_CHECKING, Protocol

from django.db import transaction
from django.db.models import Q
from django.db.models.functions import Now

from catalog.models import HostImage, Image, cached
from hosts.models import HostCapacity

if TYPE_CHECKING:
    from collections.abc import Iterable

    from django.db.models import QuerySet

    from hosts.models import Host


class Unneeded(Protocol):
    def __call__(self, copies: QuerySet[HostImage]) -> QuerySet[HostImage]: ...


_entries: list[Unneeded] = []


def register(unneeded: Unneeded) -> None:
    """Add how one room above leaves out copies that it relies on, in one query."""
    _entries.append(unneeded)


def mark(host: Host, copies: QuerySet[HostImage]) -> int:
    """Mark those of `copies` on `host` that nothing relies on; return how many that are now."""
    with transaction.atomic():
        HostCapacity.objects.select_for_update().filter(pk=host.pk).first()
        rows = copies.filter(host=host)
        for unneeded in _entries:
            rows = unneeded(rows)
        return HostImage.objects.filter(pk__in=rows.values("pk")).update(going_since=Now())


def unmark(host_id: str, copies: QuerySet[HostImage] | None = None) -> None:
    """Take marks back: the deletion was given up, or has failed."""
    rows = HostImage.objects.all() if copies is None else copies
    rows.filter(host__pk=host_id).exclude(going_since=None).update(going_since=None)


def is_going(host: Host, image: Image) -> bool:
    """Return whether the host's copy of `image` is being deleted: a create waits for the end."""
    rows = HostImage.objects.filter(cached(image), host=host)
    return rows.exclude(going_since=None).exists()


def named(pairs: Iterable[tuple[str, str]]) -> QuerySet[HostImage]:
    """Return the copies of these catalog ids (upper case) and versions, on every host."""
    conditions = [Q(catalog_id=catalog_id, version=version) for catalog_id, version in pairs]
    return HostImage.objects.filter(reduce(or_, conditions, Q(pk__in=[])))
