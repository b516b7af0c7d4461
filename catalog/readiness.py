"""Which host could make a VM of which image at once, and which would have to download it first."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING

from django.db.models import Sum

from catalog.caching import PULL
from catalog.downloads import needed_gib
from catalog.models import HostCache, HostImage
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
class Cell:
    """How an image stands with a host; `progress` in percent, while it is pulled."""

    host: Host
    ready: Ready
    progress: int = 0


@dataclass(frozen=True)
class Row:
    """An image, and how it stands with each host, in their order."""

    image: Image
    cells: list[Cell]

    @property
    def cached(self) -> int:
        return sum(cell.ready is Ready.CACHED for cell in self.cells)

    @property
    def possible(self) -> int:
        return sum(cell.ready is not Ready.OTHER for cell in self.cells)


@dataclass(frozen=True)
class Use:
    """How much of a host's disk its cache takes, and may take (None: as much as it likes)."""

    host: Host
    used_mib: int
    quota_mib: int | None

    @property
    def is_over(self) -> bool:
        return self.quota_mib is not None and self.used_mib > self.quota_mib


def use_of(hosts: Sequence[Host]) -> list[Use]:
    """Return what the cache of each host takes, in their order. Two queries."""
    sizes = HostImage.objects.filter(host__in=hosts).values("host").annotate(sum=Sum("size_mib"))
    used = dict(sizes.values_list("host", "sum"))
    quotas = dict(HostCache.objects.filter(host__in=hosts).values_list("host", "quota_mib"))
    return [Use(host, used.get(host.pk, 0), quotas.get(host.pk)) for host in hosts]


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
    pulling = {
        (job.subject, job.payload["image"]): job.progress
        for job in pulls.only("subject", "payload", "progress")
    }
    return [
        Row(image, [_cell(image, host, kept[host.pk], pulling) for host in hosts])
        for image in images
    ]


def _cell(
    image: Image,
    host: Host,
    kept: dict[tuple[str, str, str], bool],
    pulling: dict[tuple[str, str], int],
) -> Cell:
    progress = pulling.get((f"host:{host.pk}", str(image.pk)))
    ready = _ready(image, host, kept, pulled=progress is not None)
    return Cell(host, ready, (progress or 0) if ready is Ready.PULLING else 0)


def _ready(
    image: Image,
    host: Host,
    kept: dict[tuple[str, str, str], bool],
    *,
    pulled: bool,
) -> Ready:
    if host.status.architecture != image.architecture:
        return Ready.OTHER
    for architecture in (image.architecture, ""):
        going = kept.get((image.catalog_id.upper(), image.version, architecture))
        if going is not None:
            return Ready.GOING if going else Ready.CACHED
    if pulled:
        return Ready.PULLING
    has = host.capacity
    if image.pack_size_mib and has.disk_gib_free < needed_gib(
        image.pack_size_mib, has.shared_volume
    ):
        return Ready.NO_ROOM
    return Ready.ABSENT
