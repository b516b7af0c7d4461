"""A package as a zip: `package.yml` with the files that it names."""

from __future__ import annotations

import re
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from typing import IO, Any, BinaryIO, cast

from django.conf import settings

from deployments.artifacts import PIECE
from deployments.documents import LARGEST
from orchestrator.refusals import Invalid

DOCUMENT = "package.yml"
MOST_ENTRIES = 10_000
RATIO = 200  # more bytes out than so many times those in: a bomb
SMALL = 10 * 1024 * 1024  # below this the ratio may be any


class Archive:
    """A zip that was checked: no path leads out of it, and it cannot grow beyond its limits."""

    def __init__(self, file: zipfile.ZipFile) -> None:
        self.file = file
        self.entries = {info.filename: info for info in file.infolist() if not info.is_dir()}

    def document(self) -> bytes:
        return self.read(DOCUMENT, LARGEST)

    def read(self, name: str, most: int) -> bytes:
        with self.opened(name) as stream:
            found = stream.read(most + 1)
        if len(found) > most:
            raise _bad(f"{name} is larger than {most // 1024} KiB.")
        return found

    @contextmanager
    def opened(self, name: str) -> Iterator[BinaryIO]:
        """Open an entry; what it really gives is held to what it claimed to be."""
        info = self.entries.get(name)
        if info is None:
            raise _bad(f"There is no {name} in the zip.")
        try:
            with self.file.open(info) as stream:
                yield cast(BinaryIO, _Held(stream, info.file_size))
        except (zipfile.BadZipFile, EOFError, NotImplementedError, RuntimeError) as error:
            raise _bad(f"{name} in the zip cannot be read ({error}).") from None


class _Held:
    """A stream that gives no more than was claimed."""

    def __init__(self, stream: IO[bytes], left: int) -> None:
        self.stream, self.left = stream, left

    def read(self, size: int = -1) -> bytes:
        found = self.stream.read(size if size >= 0 else self.left + 1)
        self.left -= len(found)
        if self.left < 0:
            raise _bad("A file in the zip is larger than the zip says.")
        return found


@contextmanager
def opened(stream: BinaryIO) -> Iterator[Archive]:
    """Open a zip and check it before anything is read. Raises `Invalid`."""
    try:
        with zipfile.ZipFile(stream) as file:
            _check(file)
            yield Archive(file)
    except zipfile.BadZipFile as error:
        raise _bad(f"The file is no zip ({error}).") from None


def _check(file: zipfile.ZipFile) -> None:
    entries = file.infolist()
    if len(entries) > MOST_ENTRIES:
        raise _bad(f"The zip has more than {MOST_ENTRIES} entries.")
    total = sum(info.file_size for info in entries)
    packed = sum(info.compress_size for info in entries)
    if total > settings.ARTIFACT_MAXIMUM_MIB * PIECE:
        raise _bad(f"The zip unpacks to more than {settings.ARTIFACT_MAXIMUM_MIB} MiB.")
    if total > SMALL and total > RATIO * packed:
        raise _bad("The zip unpacks to far more than it is.")
    names: set[str] = set()
    for info in entries:
        parts = re.split(r"[/\\]", info.filename.rstrip("/"))
        if (
            info.filename.startswith(("/", "\\"))
            or ":" in parts[0]
            or any(part in ("", ".", "..") for part in parts)
            or not info.filename.isprintable()
        ):
            raise _bad(f"The zip has the path {info.filename!r:.100}; paths stay inside it.")
        if (info.external_attr >> 16) & 0o170000 == 0o120000:
            raise _bad(f"{info.filename} in the zip is a link; put the file itself in.")
        if info.flag_bits & 1:
            raise _bad(f"{info.filename} in the zip is encrypted.")
        if info.filename in names:
            raise _bad(f"{info.filename} is in the zip twice.")
        names.add(info.filename)
    if DOCUMENT not in names:
        raise _bad(f"There is no {DOCUMENT} at the top of the zip.")


def _bad(text: str) -> Invalid:
    return Invalid(text, code="bad_package")


def is_zip(start: Any) -> bool:
    return bytes(start[:4]) == b"PK\x03\x04"
