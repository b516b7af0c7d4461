"""What a download needs of a host. Pure: placement and caching share the rule."""

from __future__ import annotations


def needed_gib(pack_size_mib: int, shared_volume: bool | None) -> int:
    """Return the free disk, in GiB, that a host needs to download a pack of this size.

    The contract's rule (3.5): pack and unpacked copy, and once more when cache and VMs share a
    volume, or nobody knows.
    """
    return -(-pack_size_mib * (2 if shared_volume is False else 3) // 1024)
