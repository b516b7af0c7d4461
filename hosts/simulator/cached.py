"""The images in a host's cache as the JSON of the contract (4.5, 8.37), and forgetting them."""

from __future__ import annotations

from hashlib import blake2b
from typing import Any

from hosts.simulator import catalogs, hub
from hosts.simulator.render import CACHE_FOLDER
from hosts.simulator.wire import rfc3339
from hosts.simulator.world import CachedImage, Host


def forget(host: Host, keys: list[tuple[str, str]]) -> None:
    """Delete images from the cache, and tell of it."""
    for key in keys:
        item = host.cache.pop(key)
        catalogs.forget_cached(host, item.catalog_id, item.version)
        hub.tell(host, "catalog_cache", "CACHE_ITEM_REMOVED", cache_item(item))


def cache_list(host: Host) -> dict[str, Any]:
    """Return the images in the host's cache (contract 4.5, 8.37)."""
    items = list(host.cache.values())
    return {
        "total_size": sum(item.size_mib for item in items),
        "manifests": [_manifest(item) for item in items],
        "cache_config": {"enabled": True, "folder": CACHE_FOLDER},
    }


def cache_item(item: CachedImage) -> dict[str, Any]:
    """Return the body of an event about the cache (contract 3.9)."""
    return {
        "catalog_id": item.catalog_id,
        "version": item.version,
        "architecture": item.architecture,
        "cache_size": item.size_mib,
        "cache_type": item.kind,
        "cached_date": rfc3339(item.cached_at),
    }


def _manifest(item: CachedImage) -> dict[str, Any]:
    name = f"{item.catalog_id.lower()}-{item.architecture}-{item.version}"
    checksum = blake2b(name.encode(), digest_size=16).hexdigest()
    return {
        "name": name,
        "catalog_id": item.catalog_id,
        "version": item.version,
        "architecture": item.architecture,
        "type": item.kind,
        "cache_date": rfc3339(item.cached_at),
        "cache_local_path": CACHE_FOLDER,
        "cache_file_name": f"{checksum}.{item.kind}",
        "cache_metadata_name": f"{checksum}.meta",
        "cache_type": item.kind,
        "cache_size": item.size_mib,
        "cache_used_count": item.used_count,
        "cache_last_used": rfc3339(item.used_at),
    }
