"""The copies of images in the caches of hosts: found, and deleted with what they are copies of."""

from __future__ import annotations

from functools import reduce
from operator import or_
from typing import TYPE_CHECKING

from django.db.models import Q

from accounts.revocation import COPY_CHOICES
from catalog import caching
from catalog.models import HostImage, Image, cached
from hosts.models import Host
from jobs import batches
from orchestrator.refusals import Invalid

if TYPE_CHECKING:
    from collections.abc import Iterable

    from django.db.models import QuerySet

    from accounts.actors import Actor
    from jobs.models import Job


def copies_of(images: Iterable[Image]) -> QuerySet[HostImage]:
    """Return the copies of `images` on hosts of the pool, by host, without secrets of hosts."""
    about = reduce(or_, map(cached, images), Q(pk__in=[]))
    return (
        HostImage.objects.filter(about, host__removed_at=None)
        .select_related("host")
        .defer("host__password", "host__api_key")
        .order_by("host__name", "catalog_id", "version", "architecture")
    )


def check_choice(actor: Actor, cached_copies: str) -> bool:
    """Return whether copies are to be deleted; raises `Invalid`, or `Forbidden` for who may not."""
    if cached_copies not in COPY_CHOICES:
        raise Invalid.field("cached_copies", f"Choose one of: {', '.join(COPY_CHOICES)}.")
    if cached_copies == "delete":
        actor.require("hosts.manage")
    return cached_copies == "delete"


def delete(actor: Actor, images: Iterable[Image]) -> list[Job]:
    """Ask every host to delete its copies of `images`; return a batch for each that has any.

    In the caller's transaction. A host that cannot now, for a VM is still being made of the copy,
    is refused by itself and can be asked again by retrying the batch.
    """
    jobs = []
    for image in images:
        hosts = Host.objects.present().filter(pk__in=copies_of([image]).values("host"))
        found = list(hosts.defer("password", "api_key").order_by("pk"))
        if found:
            options = {"catalog_id": image.catalog_id, "version": image.version}
            jobs.append(batches.request(actor, caching.DELETE, found, options=options))
    return jobs
