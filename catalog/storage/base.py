"""What every storage of packs offers: the protocol, the values it returns and its one error.

Sizes are bytes, durations seconds. Keys are paths with `/`, relative to the storage's root. Imports
neither Django nor another room.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from enum import StrEnum
from typing import Protocol, runtime_checkable

CHUNK = 1024 * 1024
"""How much is in memory of what is read; constant, however large a pack is."""
MAXIMUM_METADATA = 4 * 1024 * 1024


class Trouble(StrEnum):
    """Why a storage did not do what it was asked to."""

    SETTINGS = "settings"
    """The connection string cannot work."""
    FORBIDDEN_ADDRESS = "forbidden_address"
    CREDENTIALS = "credentials"
    MISSING = "missing"
    FULL = "full"
    FAILED = "failed"
    AWAY = "away"


class StorageError(Exception):
    """A call to a storage did not work. `message` says what to do and holds no secret.

    `permanent` means that the same again is useless until somebody changes something.
    """

    def __init__(self, kind: Trouble, message: str) -> None:
        super().__init__(kind, message)
        self.kind = kind
        self.message = message
        self.permanent = kind not in (Trouble.AWAY, Trouble.FAILED)

    def __str__(self) -> str:
        return self.message


@dataclass(frozen=True)
class Stored:
    """An object in a storage."""

    key: str
    size: int


class Storage(Protocol):
    """One storage. Every method raises `StorageError` and nothing else."""

    def list(self, prefix: str = "") -> Iterator[Stored]:
        """All objects whose key begins with `prefix`."""

    def stat(self, key: str) -> Stored:
        """One object; `MISSING` when it is not there."""

    def read(self, key: str, offset: int = 0) -> Iterator[bytes]:
        """The content from `offset` on, in pieces of at most `CHUNK`."""

    def put(self, key: str, data: bytes) -> None:
        """Write a small object whole, or not at all; replaces what was there."""

    def delete(self, key: str) -> None:
        """Delete an object; one that is not there is no error."""

    def download_url(self, key: str, seconds: int) -> str:
        """An address that reads the object for `seconds` without keys; empty where none can be."""

    def upload_url(self, key: str, seconds: int) -> str:
        """An address that takes the object by one PUT; empty where none can be."""

    def close(self) -> None:
        """Let go of connections."""


def read_small(storage: Storage, key: str) -> bytes:
    """Return a small object; raises `StorageError` for one that is larger than metadata is."""
    found = bytearray()
    for piece in storage.read(key):
        found += piece
        if len(found) > MAXIMUM_METADATA:
            raise StorageError(Trouble.FAILED, f"{key} is too large to be the metadata of a pack.")
    return bytes(found)


def checked_key(key: str) -> str:
    """Return the key; raises `StorageError` for one that leads out of its folder."""
    parts = key.split("/")
    if not key or key.startswith("/") or "\\" in key or any(p in ("", ".", "..") for p in parts):
        raise StorageError(Trouble.SETTINGS, f"{key!r} is no name of an object in a storage.")
    return key


@runtime_checkable
class PartStorage(Storage, Protocol):
    """A storage that takes an object in parts; a part is known by its number, from 1 on."""

    def begin_parts(self, key: str) -> str:
        """Begin an upload in parts and return its id."""

    def part_url(self, key: str, upload: str, number: int, seconds: int) -> str:
        """An address that takes one part by PUT for `seconds`, without keys."""

    def stored_parts(self, key: str, upload: str) -> dict[int, int]:
        """Number and size of each part that is stored; `MISSING` for an upload that is not."""

    def finish_parts(self, key: str, upload: str, count: int) -> None:
        """Make the object of the parts 1 to `count`."""

    def drop_parts(self, key: str, upload: str) -> None:
        """Give an upload up; one that is not there is no error."""
