"""What a zip or tar would bring into a folder; refused when any of it would lead out of that.

The file goes into guests as it is, and their own tools unpack it there. So everything that they
would follow is looked at here first: paths, links, devices.
"""

from __future__ import annotations

import bz2
import gzip
import lzma
import re
import stat
import tarfile
import zipfile
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from typing import IO, Any, BinaryIO, cast

from orchestrator.refusals import Invalid

MOST_ENTRIES = 50_000
LARGEST = 16 * 1024**3  # bytes, unpacked
LONGEST_READ = 1024 * 1024  # bytes that a header of a tar may have
LINK_LENGTH = 4096
ZIP, TAR = "zip", "tar"
BROKEN = (
    *(tarfile.TarError, zipfile.BadZipFile, gzip.BadGzipFile, lzma.LZMAError, zlib.error),
    *(EOFError, OSError, ValueError, NotImplementedError, RuntimeError),
)


@dataclass(frozen=True)
class Contents:
    """What an archive brings, as paths inside its folder; folders come deepest first."""

    kind: str
    files: tuple[str, ...]
    folders: tuple[str, ...]


@dataclass(frozen=True)
class _Entry:
    path: str
    what: str  # file, folder, link, same (as an earlier file)
    size: int = 0
    target: str = ""


def contents(stream: BinaryIO) -> Contents:
    """Return what the archive has. Raises `Invalid` for what is none, or must not be unpacked."""
    kind = ZIP if stream.read(4)[:2] == b"PK" else TAR
    stream.seek(0)
    try:
        return _checked(kind, _of_zip(stream) if kind == ZIP else _of_tar(stream))
    except Invalid:
        raise
    except BROKEN as error:
        raise _bad(f"This is no zip and no tar that can be read ({error})."[:300]) from None


def _checked(kind: str, entries: Iterator[_Entry]) -> Contents:
    files: dict[str, str] = {}  # path → what
    folders: dict[str, None] = {}
    links: dict[str, str] = {}
    total = 0
    for count, entry in enumerate(entries, 1):
        path = _inside(entry.path)
        total += entry.size
        if count > MOST_ENTRIES:
            raise _bad(f"The archive has more than {MOST_ENTRIES} entries.")
        if total > LARGEST:
            raise _bad(f"The archive unpacks to more than {LARGEST // 1024**3} GiB.")
        if not path:
            continue
        parts = path.split("/")
        folders |= {"/".join(parts[:depth]): None for depth in range(1, len(parts))}
        if entry.what == "folder":
            folders[path] = None
            continue
        if path in links or (entry.what == "link" and path in files):
            raise _bad(f"The archive has {path} twice, once as a link.")
        if entry.what == "link":
            links[path] = entry.target
        if entry.what == "same" and files.get(_inside(entry.target)) != "file":
            raise _bad(f"{path} in the archive is a link to what is not in it.")
        files[path] = "link" if entry.what == "link" else "file"
    for path, target in links.items():
        _hold_inside(path, target)
    if both := next((path for path in files if path in folders), None):
        raise _bad(f"{both} in the archive is a file and a folder, or lies beneath a link.")
    deepest = sorted(folders, key=lambda path: (-path.count("/"), path))
    return Contents(kind, tuple(files), tuple(deepest))


def _inside(name: str) -> str:
    """Return a path without what says nothing; empty for the folder itself."""
    parts = [part for part in name.split("/") if part not in ("", ".")]
    if name.startswith("/") or "\\" in name or ".." in parts or re.match(r"[A-Za-z]:", name):
        raise _bad(f"The archive has the path {name!r:.100}; paths stay inside its folder.")
    if not name.isprintable():
        raise _bad(f"The archive has the path {name!r:.100}; a name is one line of text.")
    return "/".join(parts)


def _hold_inside(path: str, target: str) -> None:
    """Raise `Invalid` unless a link stays inside.

    Nothing lies beneath a link, so that the folders above it are real: it may go up as far as they
    go, and from there only down.
    """
    parts = [part for part in target.split("/") if part not in ("", ".")]
    ups = next((place for place, part in enumerate(parts) if part != ".."), len(parts))
    leads_out = target.startswith("/") or "\\" in target or re.match(r"[A-Za-z]:", target)
    if not parts or leads_out or ".." in parts[ups:] or ups > path.count("/"):
        raise _bad(f"{path} in the archive is a link to {target!r:.100}, out of its folder.")


def _of_zip(stream: BinaryIO) -> Iterator[_Entry]:
    with zipfile.ZipFile(stream) as file:
        for info in file.infolist():
            if info.flag_bits & 1:
                raise _bad(f"{info.filename} in the archive is encrypted.")
            mode = info.external_attr >> 16
            kind = stat.S_IFMT(mode)
            if info.is_dir():
                yield _Entry(info.filename, "folder")
            elif kind == stat.S_IFLNK:
                with file.open(info) as link:
                    target = link.read(LINK_LENGTH).decode()
                yield _Entry(info.filename, "link", target=target)
            elif kind in (0, stat.S_IFREG):
                yield _Entry(info.filename, "file", info.file_size)
            else:
                raise _bad(f"{info.filename} in the archive is no file, folder or link.")


def _of_tar(stream: BinaryIO) -> Iterator[_Entry]:
    with tarfile.open(fileobj=cast(IO[bytes], _unpacked(stream)), mode="r:") as file:
        for info in file:
            if info.isdir():
                yield _Entry(info.name, "folder")
            elif info.issym():
                yield _Entry(info.name, "link", target=info.linkname)
            elif info.islnk():
                yield _Entry(info.name, "same", target=info.linkname)
            elif info.isreg():
                yield _Entry(info.name, "file", info.size)
            else:
                raise _bad(f"{info.name} in the archive is no file, folder or link.")


class _Careful:
    """A stream of a tar, in which no header is read that is larger than one needs to be."""

    def __init__(self, stream: Any) -> None:
        self.stream = stream

    def read(self, size: int = -1) -> bytes:
        if not 0 <= size <= LONGEST_READ:
            raise _bad("A header in the tar is larger than it may be.")
        found: bytes = self.stream.read(size)
        return found

    def seek(self, place: int, whence: int = 0) -> int:
        return int(self.stream.seek(place, whence))

    def tell(self) -> int:
        return int(self.stream.tell())


def _unpacked(stream: BinaryIO) -> _Careful:
    start = stream.read(6)
    stream.seek(0)
    if start[:2] == b"\x1f\x8b":
        return _Careful(gzip.GzipFile(fileobj=stream))
    if start[:3] == b"BZh":
        return _Careful(bz2.BZ2File(stream))
    if start[:6] == b"\xfd7zXZ\x00":
        return _Careful(lzma.LZMAFile(stream))
    return _Careful(stream)


def _bad(text: str) -> Invalid:
    return Invalid(text, code="bad_package")
