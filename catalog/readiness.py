"""Which host could make a VM of which image at once, and which would have to download it first."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING

from catalog.caching import PULL
from catalog.downloads import needed_gib
from catalog.models import HostImage
from hosts.models import Host
from jobs.models import Job

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from uuid import UUID

    from accounts.actors import Actor
    from catalog.models import Image

MAXIMUM_HOSTS = 200


class Ready(StrEnum):
    """How an image stands with a host."""

    CACHED = "cached"
    PULLING = "pulling"
    GOING = "going"
    """Its copy is being deleted."""
    ABSENT = "absent"
    NO_ROOM = "no_room"
    """Absent, and the host has no room for the download."""
    OTHER = "other"
    """Of another architecture than the host."""


@dataclass(frozen=True)
class Row:
    """An image, and how it stands with each host, in their order."""

    image: Image
    cells: list[tuple[Host, Ready]]

    @property
    def cached(self) -> int:
        return sum(ready is Ready.CACHED for _, ready in self.cells)

    @property
    def possible(self) -> int:
        return sum(ready is not Ready.OTHER for _, ready in self.cells)


def hosts_of(actor: Actor) -> list[Host]:
    """Return the hosts that a matrix shows: the first ones by name, without credentials."""
    rows = Host.objects.visible_to(actor).select_related("status", "capacity")
    return list(rows.defer("password", "api_key").order_by("name")[:MAXIMUM_HOSTS])


def matrix(images: Iterable[Image], hosts: Sequence[Host]) -> list[Row]:
    """Return a row for each image. Two queries, however many there are."""
    kept: dict[UUID, dict[tuple[str, str, str], bool]] = defaultdict(dict)
    for copy in HostImage.objects.filter(host__in=hosts):
        key = (copy.catalog_id, copy.version, copy.architecture)
        kept[copy.host_id][key] = copy.going_since is not None
    pulls = Job.objects.open().filter(kind=PULL)
    pulling = {(job.subject, job.payload["image"]) for job in pulls.only("subject", "payload")}
    return [
        Row(image, [(host, _ready(image, host, kept[host.pk], pulling)) for host in hosts])
        for image in images
    ]


def _ready(
    image: Image,
    host: Host,
    kept: dict[tuple[str, str, str], bool],
    pulling: set[tuple[str, str]],
) -> Ready:
    if host.status.architecture != image.architecture:
        return Ready.OTHER
    for architecture in (image.architecture, ""):
        going = kept.get((image.catalog_id.upper(), image.version, architecture))
        if going is not None:
            return Ready.GOING if going else Ready.CACHED
    if (f"host:{host.pk}", str(image.pk)) in pulling:
        return Ready.PULLING
    has = host.capacity
    if image.pack_size_mib and has.disk_gib_free < needed_gib(
        image.pack_size_mib, has.shared_volume
    ):
        return Ready.NO_ROOM
    return Ready.ABSENT
