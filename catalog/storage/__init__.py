"""Storages of packs: one protocol, and the providers of the contract (4.3).

Imports neither Django nor another room, so that it can be tried by itself.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from catalog.storage.base import (
    CHUNK,
    PartStorage,
    Storage,
    StorageError,
    Stored,
    Trouble,
    read_small,
)
from catalog.storage.connections import Provider

PROVIDERS = ("local-storage", "aws-s3", "minio", "azure-storage-account", "artifactory")


def open_storage(
    provider: Provider, *, roots: Sequence[Path] = (), environment_keys: bool = False
) -> Storage:
    """Return the storage; sends nothing.

    `roots` are the folders below which a local one may be. With `environment_keys` a bucket may be
    read with the keys that this machine itself has.

    Raises `StorageError` (`SETTINGS`) for what cannot work. The clients are imported only here:
    they are large, and most processes need none.
    """
    if provider.type == "local-storage":
        from catalog.storage.local import LocalStorage

        return LocalStorage(provider, roots)
    if provider.type in ("aws-s3", "minio"):
        from catalog.storage.s3 import S3Storage

        return S3Storage(provider, environment_keys=environment_keys)
    if provider.type == "azure-storage-account":
        from catalog.storage.azure import AzureStorage

        return AzureStorage(provider)
    if provider.type == "artifactory":
        from catalog.storage.artifactory import ArtifactoryStorage

        return ArtifactoryStorage(provider)
    raise StorageError(
        Trouble.SETTINGS, f"There is no provider {provider.type!r}; use: {', '.join(PROVIDERS)}."
    )


__all__ = [
    "CHUNK",
    "PROVIDERS",
    "PartStorage",
    "Provider",
    "Storage",
    "StorageError",
    "Stored",
    "Trouble",
    "open_storage",
    "read_small",
]
