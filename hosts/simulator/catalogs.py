"""Push and pull: a host's bundles and cache as real files below ``--packs FOLDER`` (contract 4.4).

Without that option a host only pretends, as its VMs do: no file, no catalog is asked.
"""

from __future__ import annotations

import http.client
import json
import shutil
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from hosts.simulator import packs, transfer, uploads
from hosts.simulator.wire import RefusedError, rfc3339
from hosts.simulator.world import VM, Host, Job

MIB = 1024 * 1024


@dataclass(slots=True)
class Push:
    """A PushCatalogManifestRequest. ``connection`` is a secret and kept nowhere."""

    vm: VM
    catalog_id: str
    version: str
    connection: str = field(repr=False)
    compress: bool = False
    values: dict[str, Any] = field(default_factory=dict)
    """What goes into the manifest as it came: description, tags, roles, claims, requirements."""


def parts_of(connection: str) -> dict[str, str]:
    """Return the keys and values of a connection string (contract 4.3)."""
    pairs = (part.partition("=") for part in connection.split(";") if part)
    return {name.strip().lower(): value for name, _, value in pairs}


def _root(host: Host) -> Path:
    assert host.world.options.packs is not None
    return host.world.options.packs / f"host-{host.k}"


def bundle_of(host: Host, vm: VM) -> Path:
    """Return the real folder of a VM."""
    return _root(host) / vm.bundle.lstrip("/")


def forget_bundle(host: Host, vm: VM) -> None:
    """Delete the real folder of a VM that is gone."""
    if host.world.options.packs:
        shutil.rmtree(bundle_of(host, vm), ignore_errors=True)


def _cache(host: Host, catalog_id: str, version: str) -> Path:
    return _root(host) / "cache" / f"{catalog_id}-{version}".replace("/", "_")


def forget_cached(host: Host, catalog_id: str, version: str) -> None:
    """Delete what was unpacked into the cache."""
    if host.world.options.packs:
        shutil.rmtree(_cache(host, catalog_id, version), ignore_errors=True)


def _cut(host: Host, size: int) -> int | None:
    return size // 2 if host.strikes("cuttransfer") else None


# -- push ------------------------------------------------------------------------------------


def push(host: Host, wish: Push, job: Job) -> None:
    """Pack a bundle and write it, then its metadata; blocks, so it is for a thread.

    Raises ``RefusedError`` 400. A pack that was made for an interrupted try is made again: the same
    folder gives the same bytes, so the storage's part of it is gone on with.
    """
    if not host.world.options.packs:
        raise RefusedError(400, "error 400: start the simulator with --packs to push")
    parts = parts_of(wish.connection)
    kind, folder, name = parts.get("provider", ""), wish.catalog_id.lower(), _name(host, wish)
    bundle = bundle_of(host, wish.vm)
    if not bundle.exists():
        record = {"name": wish.vm.name, "cpus": wish.vm.cpus, "memory": wish.vm.memory_mib}
        packs.make_bundle(bundle, record, host.bundle_bytes)
    work = _root(host) / "temporary" / f"{job.id}.pdpack"
    work.parent.mkdir(parents=True, exist_ok=True)
    try:
        packed = packs.pack(bundle, work, compress=wish.compress, room=host.pack_room)
        job.percent = 40
        upload = transfer.place(
            kind, parts, folder, f"{name}.pdpack", parts.get("pack_upload_url", "")
        )

        def told(done: int) -> None:
            job.percent = 40 + 55 * done // max(1, packed.size)

        cut = _cut(host, packed.size)
        if parts.get("pack_parts_url"):
            address = parts["pack_parts_url"]
            resumed = uploads.send(work, address, md5=packed.md5, progress=told, cut=cut)
        else:
            resumed = transfer.send(work, upload, progress=told, cut=cut)
        if resumed:
            host.count("transfer_resumed")
        meta = work.with_suffix(".meta")
        meta.write_text(json.dumps(_metadata(host, wish, name, packed)))
        signed = parts.get("metadata_upload_url", "")
        target = transfer.place(kind, parts, folder, f"{name}.meta", signed)
        transfer.send(meta, target, progress=lambda done: None)
        meta.unlink()
    except packs.NoRoomError:
        raise RefusedError(400, "error 400: not enough disk space on the host") from None
    finally:
        work.unlink(missing_ok=True)


def _name(host: Host, wish: Push) -> str:
    return f"{wish.catalog_id}-{host.arch}-{wish.version}".lower()


def _metadata(host: Host, wish: Push, name: str, packed: packs.Packed) -> dict[str, Any]:
    """Return the internal manifest of the contract (2.5)."""
    return {
        "name": name,
        "catalog_id": wish.catalog_id.upper(),
        "version": wish.version,
        "architecture": host.arch,
        "type": "macvm" if wish.vm.type == "APPLE_VZ_VM" else "pvm",
        "path": wish.catalog_id.lower(),
        "pack_path": f"{name}.pdpack",
        "metadata_path": f"{name}.meta",
        "size": packed.unpacked,
        "unpacked_size": packed.unpacked,
        "pack_size": -(-packed.size // MIB),
        "is_compressed": wish.compress,
        "compressed_checksum": packed.md5,
        "compressed_size": packed.size,
        "created_at": rfc3339(host.now()),
        **wish.values,
    }


# -- pull ------------------------------------------------------------------------------------


def download(host: Host, catalog_id: str, version: str, connection: str) -> int:
    """Bring an image into the cache; return its size in MiB.

    Blocks, so it is for a thread. Raises ``RefusedError`` 400; what was read of the pack stays, so
    that the next try goes on with it, unless its checksum is wrong.
    """
    target = _cache(host, catalog_id, version)
    manifest = _ask(parts_of(connection).get("host", ""), catalog_id, version, host.arch)
    meta = manifest["provider"].get("meta", {})
    part = target.with_name(f"{target.name}.part")
    size = int(manifest.get("compressed_size") or manifest.get("size") or 0)
    source = transfer.place(
        manifest["provider"].get("type", ""),
        meta,
        manifest.get("path", ""),
        manifest.get("pack_filename") or manifest.get("pack_path", ""),
        meta.get("pack_url", ""),
    )
    try:
        if transfer.fetch(
            source, part, room=host.pack_room, progress=lambda done: None, cut=_cut(host, size)
        ):
            host.count("transfer_resumed")
        wanted = manifest.get("compressed_checksum", "")
        if wanted and packs.md5_of(part) != wanted:
            part.unlink()
            raise RefusedError(400, "error 400: the checksum of the pack is wrong")
        unpacked = packs.unpack(part, target, room=host.pack_room)
    except packs.NoRoomError:
        raise RefusedError(400, "error 400: not enough disk space on the host") from None
    except packs.BadPackError:
        part.unlink(missing_ok=True)
        raise RefusedError(400, "error 400: the file is no pack") from None
    part.unlink()
    return max(1, -(-unpacked // MIB))


def clone_cached(host: Host, catalog_id: str, version: str, vm: VM) -> None:
    """Give a new VM the files of its image."""
    source = _cache(host, catalog_id, version)
    if source.exists():
        shutil.copytree(source, bundle_of(host, vm), dirs_exist_ok=True)


def _ask(address: str, catalog_id: str, version: str, arch: str) -> dict[str, Any]:
    """Return the manifest with access to its storage from a catalog (contract 8.31)."""
    login, _, url = address.rpartition("@")
    path = f"{url.rstrip('/')}/api/v1/catalog/{catalog_id}/{version}/{arch}/download"
    headers = {"X-INTERNAL-API-CLIENT": "true", "X-Api-Key": login}
    try:
        with transfer.asking("GET", path, headers) as answer:
            status, manifest = answer.status, json.loads(answer.read())
    except (http.client.HTTPException, OSError, ValueError):
        raise RefusedError(400, "error 400: the catalog does not answer") from None
    if status != 200 or not isinstance(manifest, dict) or "provider" not in manifest:
        said = manifest.get("message", "") if isinstance(manifest, dict) else ""
        raise RefusedError(400, f"error 400: the catalog answered {status}: {said}")
    return manifest


def note_begin(job: Job) -> None:
    """Note that a push began."""
    job.state = "running"
    job.begun = time.monotonic()
