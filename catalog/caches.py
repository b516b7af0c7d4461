"""What hosts have cached."""

from __future__ import annotations

from typing import TYPE_CHECKING

from catalog import caching
from catalog.models import HostImage

if TYPE_CHECKING:
    from hosts.lifecycle import Listing
    from hosts.models import Host


def record(host: Host, listing: Listing) -> set[str]:
    """Store what the host listed of its cache, in the transaction that records its inventory."""
    caching.sweep(host, listing.inventory.vms)
    images = listing.inventory.images
    if images is None:
        return set()
    rows = {
        (image.catalog_id.upper(), image.version, image.architecture): image for image in images
    }
    known = HostImage.objects.filter(host=host)
    stored = known.values_list("catalog_id", "version", "architecture", "size_mib")
    if set(stored) == {(*key, image.size_mib) for key, image in rows.items()}:
        known.update(seen_at=listing.began_at)
        return set()
    known.delete()
    HostImage.objects.bulk_create(
        HostImage(
            host=host,
            catalog_id=catalog_id,
            version=version,
            architecture=architecture,
            size_mib=image.size_mib,
            seen_at=listing.began_at,
        )
        for (catalog_id, version, architecture), image in rows.items()
    )
    return set()
