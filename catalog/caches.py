"""What hosts have cached."""

from __future__ import annotations

from typing import TYPE_CHECKING

from catalog import caching, collecting
from catalog.models import HostImage
from events.publishing import event_of, publish_all

if TYPE_CHECKING:
    from events.models import Event
    from hosts.lifecycle import Listing
    from hosts.models import Host


OBSERVED = ["size_mib", "type", "cached_at", "last_used_at"]


def record(host: Host, listing: Listing) -> set[str]:
    """Store what the host listed of its cache, in the transaction that records its inventory."""
    caching.sweep(host, listing.inventory.vms)
    images = listing.inventory.images
    if images is None:
        return set()
    seen = {
        (image.catalog_id.upper(), image.version, image.architecture): image for image in images
    }
    known = {
        (row.catalog_id, row.version, row.architecture): row
        for row in HostImage.objects.filter(host=host)
    }
    gone = [row for key, row in known.items() if key not in seen]
    HostImage.objects.filter(pk__in=[row.pk for row in gone]).delete()
    new, changed = [], []
    for key, image in seen.items():
        told = {
            "size_mib": image.size_mib,
            "type": image.type[:10],
            "cached_at": image.cached_at,
            "last_used_at": image.last_used_at,
        }
        if row := known.get(key):
            if any(getattr(row, name) != value for name, value in told.items()):
                for name, value in told.items():
                    setattr(row, name, value)
                changed.append(row)
        else:
            catalog_id, version, architecture = key
            named = {"catalog_id": catalog_id, "version": version, "architecture": architecture}
            new.append(HostImage(host=host, seen_at=listing.began_at, **named, **told))
    HostImage.objects.filter(host=host).update(seen_at=listing.began_at)
    if changed:  # never `going_since`, which says what is wanted
        HostImage.objects.bulk_update(changed, OBSERVED)
    if new:
        HostImage.objects.bulk_create(new)
    publish_all(
        [_event("host.image_cached", row) for row in new]
        + [_event("host.image_uncached", row) for row in gone]
    )
    if changed or new:
        collecting.consider(host)
    return set()


def _event(kind: str, copy: HostImage) -> Event:
    told = {
        "catalog_id": copy.catalog_id,
        "version": copy.version,
        "architecture": copy.architecture,
        "size_mib": copy.size_mib,
        "type": copy.type,
        "cached_at": copy.cached_at and copy.cached_at.isoformat(),
    }
    return event_of(kind, f"host:{copy.host_id}", told, permission="images.view")
