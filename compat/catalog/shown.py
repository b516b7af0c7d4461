"""Images, caches and other catalogs as they go out. Nothing here holds a secret."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from catalog.manifests import MIB, base_name, values_of
from catalog.models import CatalogSource, HostImage, Image
from catalog.storage.connections import HIDDEN, address_of, masked, parts_of
from compat.wire.answers import compact, rfc3339

if TYPE_CHECKING:
    from collections.abc import Iterable

    from accounts.actors import Actor
    from catalog.manifests import Manifest

# What the record of a stored image has and a manifest on the wire does not.
_STORED_ALONE = (
    *("pack_path", "metadata_path", "unpacked_size", "compressed_checksum", "compressed_size"),
    *("sha256", "provenance"),
)


def manifest_out(actor: Actor, image: Image) -> dict[str, Any]:
    """Return the manifest of an image; who sees images also sees where it lies, masked."""
    values = values_of(image)
    for name in _STORED_ALONE:
        values.pop(name)
    values["catalog_id"] = image.catalog_id.upper()
    values["updated_at"] = values["created_at"]
    if actor.can("images.view"):
        values["provider"] = _provider(image.source)
    return _without_false(values)


def offered_out(manifest: Manifest) -> dict[str, Any]:
    """Return a manifest that another catalog offers."""
    return _without_false(
        {
            "name": base_name(manifest.catalog_id, manifest.version, manifest.architecture),
            "id": f"{manifest.catalog_id}:{manifest.version}:{manifest.architecture}",
            "catalog_id": manifest.catalog_id.upper(),
            "version": manifest.version,
            "architecture": manifest.architecture,
            "type": manifest.type,
            "description": manifest.description,
            "tags": list(manifest.tags),
            "size": manifest.pack_bytes or 0,
            "pack_size": -(-(manifest.pack_bytes or 0) // MIB),
            "pack_filename": manifest.pack_file,
            "metadata_filename": manifest.metadata_file,
            "is_compressed": manifest.compressed,
            "minimum_requirements": {
                "cpu": manifest.minimum_cpus,
                "memory": manifest.minimum_memory_mib,
                "disk": manifest.minimum_disk_gib * 1024,
            },
            "required_roles": list(manifest.required_roles),
            "required_claims": list(manifest.required_claims),
            "tainted": manifest.tainted is not None,
            "revoked": manifest.revoked is not None,
        }
    )


def grouped(manifests: Iterable[dict[str, Any]]) -> list[dict[str, list[dict[str, Any]]]]:
    """Return manifests as lists of the contract have them: an object of one key for each id."""
    by_id: dict[str, list[dict[str, Any]]] = {}
    for manifest in manifests:
        by_id.setdefault(manifest["catalog_id"], []).append(manifest)
    return [{catalog_id: by_id[catalog_id]} for catalog_id in sorted(by_id)]


def _without_false(values: dict[str, Any]) -> dict[str, Any]:
    """Return a manifest without what the contract leaves out: empty texts and unset flags."""
    return {name: value for name, value in compact(values).items() if value is not False}


def _provider(source: CatalogSource) -> dict[str, Any]:
    """Return where an image lies: enough to tell one storage from another, no secret."""
    try:
        shown = parts_of(masked(source.connection))
    except ValueError:
        return {"type": HIDDEN}
    kind = shown.pop("provider", "")
    host = shown.pop("host", "")
    return compact({"type": kind or "catalog", "host": host, "meta": shown})


def manager_out(source: CatalogSource) -> dict[str, Any]:
    """Return another catalog; its password or key is never told."""
    try:
        address = address_of(source.connection)
    except ValueError:
        address = None
    changed = rfc3339(source.imported_at or source.created_at)
    return {
        "id": str(source.pk),
        "name": source.name,
        "url": address.url if address else "",
        "internal": False,
        "active": source.active,
        "authentication_method": "api_key" if address and address.api_key else "credentials",
        **compact({"username": address.username if address else ""}),
        "global": True,
        "required_claims": [],
        "owner_id": str(source.added_by_id or ""),
        "created_at": rfc3339(source.created_at),
        "updated_at": changed,
    }


def cached_out(rows: Iterable[HostImage]) -> dict[str, Any]:
    """Return what hosts have cached, as one cache; an image that many have is told once."""
    found: dict[tuple[str, str, str], dict[str, Any]] = {}
    total = 0
    for row in rows:
        total += row.size_mib
        at = rfc3339(row.cached_at or row.seen_at)
        one = found.setdefault(
            (row.catalog_id, row.version, row.architecture),
            compact(
                {
                    "name": base_name(row.catalog_id, row.version, row.architecture or "any"),
                    "catalog_id": row.catalog_id,
                    "version": row.version,
                    "architecture": row.architecture,
                    "cache_type": row.type,
                    "cache_date": at,
                    "cache_size": row.size_mib,
                    "cache_last_used": rfc3339(row.last_used_at),
                }
            ),
        )
        one["cache_used_count"] = one.get("cache_used_count", 0) + 1  # hosts that have it
    return {
        "total_size": total,
        "manifests": [found[key] for key in sorted(found)],
        "cache_config": {"enabled": True},
    }
