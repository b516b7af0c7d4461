"""A manifest as the `.meta` file beside a pack has it (contract 4.1), and as our rows have it.

What others wrote there and we do not know is kept when we write.
"""

from __future__ import annotations

import json
import re
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import datetime
from typing import TYPE_CHECKING, Any

from django.utils import timezone
from django.utils.dateparse import parse_datetime

if TYPE_CHECKING:
    from catalog.models import Image

ARCHITECTURES = {"arm64": "arm64", "aarch64": "arm64", "x86_64": "x86_64", "amd64": "x86_64"}
TYPES = ("pvm", "macvm")
MIB = 1024 * 1024
LONGEST = {"catalog_id": 200, "version": 100, "file": 200, "label": 100, "reason": 300}
_SHA256 = re.compile(r"[0-9a-f]{64}")
_MD5 = re.compile(r"[0-9a-f]{32}")


class BadManifest(Exception):
    """What was read is no manifest; the text says why."""


@dataclass(frozen=True)
class Flag:
    """A taint or a revocation."""

    at: datetime
    by: str
    reason: str


@dataclass(frozen=True)
class Manifest:
    """What a `.meta` file says of a pack. Sizes in bytes."""

    catalog_id: str
    version: str
    architecture: str
    type: str
    description: str = ""
    tags: tuple[str, ...] = ()
    path: str = ""
    pack_file: str = ""
    metadata_file: str = ""
    pack_bytes: int | None = None
    unpacked_bytes: int | None = None
    compressed: bool = False
    md5: str = ""
    sha256: str = ""
    minimum_cpus: int = 0
    minimum_memory_mib: int = 0
    minimum_disk_gib: int = 0
    required_roles: tuple[str, ...] = ()
    required_claims: tuple[str, ...] = ()
    provenance: dict[str, Any] = field(default_factory=dict)
    tainted: Flag | None = None
    revoked: Flag | None = None

    @property
    def name(self) -> str:
        return f"{self.catalog_id}:{self.version} ({self.architecture})"

    @property
    def fields(self) -> dict[str, Any]:
        """Return the columns of an `Image` that the manifest fills."""
        mib = None if self.pack_bytes is None else max(1, -(-self.pack_bytes // MIB))
        names = (
            *("type", "description", "path", "pack_file", "metadata_file", "pack_bytes"),
            *("unpacked_bytes", "compressed", "md5", "sha256", "minimum_cpus"),
            *("minimum_memory_mib", "minimum_disk_gib", "provenance"),
        )
        return {"pack_size_mib": mib, **{name: getattr(self, name) for name in names}}


def base_name(catalog_id: str, version: str, architecture: str) -> str:
    """Return the name of pack and metadata without their endings (contract 4.1)."""
    return f"{plain(catalog_id)}-{architecture}-{plain(version)}".lower()


def plain(text: str) -> str:
    """Return an id or version with everything but letters, digits, `.`, `_`, `-` as `_`."""
    found = re.sub(r"[^A-Za-z0-9._-]", "_", text.strip())
    return found.replace("..", "__").lstrip(".") or "_"


def read(data: bytes, *, key: str = "") -> Manifest:
    """Return the manifest in a `.meta` file; `key` is where it was. Raises `BadManifest`."""
    try:
        values = json.loads(data)
    except (ValueError, RecursionError):
        raise BadManifest(f"{key or 'The metadata'} is not JSON.") from None
    return from_values(values, key=key)


def from_values(values: Any, *, key: str = "") -> Manifest:
    """Return the manifest that JSON `values` of the contract describe. Raises `BadManifest`."""
    if not isinstance(values, dict):
        raise BadManifest(f"{key or 'The metadata'} is not a JSON object.")
    folder, _, file = key.rpartition("/")
    catalog_id = _text(values, "catalog_id", LONGEST["catalog_id"])
    version = _text(values, "version", LONGEST["version"])
    architecture = ARCHITECTURES.get(_text(values, "architecture", 20).lower(), "")
    kind = _text(values, "type", 10).lower()
    if not catalog_id or not version or not architecture or kind not in TYPES:
        raise BadManifest(
            f"{key or 'The metadata'} lacks catalog_id, version, architecture or type."
        )
    pack = _text(values, "pack_path", 300) or _text(values, "pack_filename", 300)
    wanted = values.get("minimum_requirements")
    minimum = wanted if isinstance(wanted, dict) else {}
    pack_bytes = _number(values, "compressed_size") or _number(values, "size")
    pack_mib = _number(values, "pack_size")
    checksum = _text(values, "compressed_checksum", 64).lower()
    made = values.get("provenance")
    sha256 = _text(values, "sha256", 64).lower()
    return Manifest(
        catalog_id=catalog_id,
        version=version,
        architecture=architecture,
        type=kind,
        description=_text(values, "description", 2000),
        tags=_labels(values, "tags"),
        path=folder or _text(values, "path", 300).strip("/"),
        pack_file=_file(pack),
        metadata_file=_file(file or _text(values, "metadata_filename", 300)),
        pack_bytes=pack_bytes or (pack_mib * MIB if pack_mib else None),
        unpacked_bytes=_number(values, "unpacked_size") or None,
        compressed=values.get("is_compressed") is True,
        md5=checksum if _MD5.fullmatch(checksum) else "",
        sha256=sha256 if _SHA256.fullmatch(sha256) else "",
        minimum_cpus=_number(minimum, "cpu"),
        minimum_memory_mib=_number(minimum, "memory"),
        minimum_disk_gib=-(-_number(minimum, "disk") // 1024),  # the contract's disk is in MB
        required_roles=_labels(values, "required_roles"),
        required_claims=_labels(values, "required_claims"),
        provenance=made if isinstance(made, dict) and len(json.dumps(made)) < 4000 else {},
        tainted=_flag(values, "tainted", "taint_reason"),
        revoked=_flag(values, "revoked", "revoke_reason"),
    )


def values_of(image: Image) -> dict[str, Any]:
    """Return the manifest of an image as the contract's JSON, without any provider's secrets."""
    name = base_name(image.catalog_id, image.version, image.architecture)
    return {
        "name": name,
        "id": str(image.pk),
        "catalog_id": image.catalog_id,
        "version": image.version,
        "architecture": image.architecture,
        "type": image.type,
        "description": image.description,
        "tags": image.tags,
        "path": image.path,
        "pack_path": image.pack_file,
        "pack_filename": image.pack_file,
        "metadata_path": image.metadata_file,
        "metadata_filename": image.metadata_file,
        "size": image.pack_bytes or (image.pack_size_mib or 0) * MIB,
        "pack_size": image.pack_size_mib or 0,
        "unpacked_size": image.unpacked_bytes or 0,
        "is_compressed": image.compressed,
        "compressed_checksum": image.md5,
        "compressed_size": image.pack_bytes or 0,
        "sha256": image.sha256,
        "minimum_requirements": {
            "cpu": image.minimum_cpus,
            "memory": image.minimum_memory_mib,
            "disk": image.minimum_disk_gib * 1024,
        },
        "required_roles": image.required_roles,
        "required_claims": image.required_claims,
        "provenance": image.provenance,
        "tainted": image.tainted_at is not None,
        "tainted_at": _rfc3339(image.tainted_at),
        "tainted_by": image.tainted_by,
        "taint_reason": image.taint_reason,
        "revoked": image.revoked_at is not None,
        "revoked_at": _rfc3339(image.revoked_at),
        "revoked_by": image.revoked_by,
        "revoke_reason": image.revoke_reason,
        "created_at": _rfc3339(image.created_at),
        "download_count": image.downloads,
        "last_downloaded_at": _rfc3339(image.last_downloaded_at),
        "last_downloaded_user": image.last_downloaded_by,
    }


def written(image: Image, before: bytes | None) -> bytes:
    """Return the `.meta` file of an image: ours over what is there `before`."""
    kept: dict[str, Any] = {}
    if before:
        try:
            found = json.loads(before)
        except (ValueError, RecursionError):
            found = None
        kept = found if isinstance(found, dict) else {}
    kept.pop("provider", None)  # it may hold keys of whoever pushed it
    return json.dumps({**kept, **values_of(image)}, indent=2, sort_keys=True).encode()


def _text(values: dict[str, Any], name: str, longest: int) -> str:
    value = values.get(name)
    return value.strip()[:longest] if isinstance(value, str) else ""


def _number(values: dict[str, Any], name: str) -> int:
    value = values.get(name)
    if isinstance(value, bool) or not isinstance(value, int | float):
        return 0
    return int(value) if 0 <= value < 2**53 else 0


def _labels(values: dict[str, Any], name: str) -> tuple[str, ...]:
    found = values.get(name)
    if not isinstance(found, list):
        return ()
    texts = [one.strip()[: LONGEST["label"]] for one in found if isinstance(one, str)]
    return tuple(sorted({one for one in texts if one})[:100])


def _file(text: str) -> str:
    """Return the name of a file in the manifest's folder; a path leads nowhere else."""
    name = text.replace("\\", "/").rpartition("/")[2]
    return "" if name in (".", "..") else name


def _flag(values: dict[str, Any], name: str, reason: str) -> Flag | None:
    if values.get(name) is not True:
        return None
    at = None
    with suppress(ValueError):
        at = parse_datetime(_text(values, f"{name}_at", 40))
    if at is None or at.tzinfo is None:
        at = timezone.now()
    return Flag(at, _text(values, f"{name}_by", 150), _text(values, reason, LONGEST["reason"]))


def _rfc3339(moment: datetime | None) -> str:
    return moment.isoformat().replace("+00:00", "Z") if moment else ""
