"""Packs: the folder of a VM as one tar, as the contract's ``.pdpack`` (4.1).

Nothing here knows hosts or storages. What is in memory is a piece, however large a pack is.
"""

from __future__ import annotations

import hashlib
import shutil
import tarfile
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, cast

PIECE = 1024 * 1024


@dataclass(frozen=True, slots=True)
class Packed:
    """What came of packing: sizes in bytes and the contract's checksum of the pack."""

    size: int
    unpacked: int
    md5: str


class _Measured:
    """A file to write that counts and sums what goes through it."""

    def __init__(self, file: IO[bytes], room: int | None) -> None:
        self._file = file
        self._room = room
        self._sum = hashlib.md5(usedforsecurity=False)
        self.size = 0

    def write(self, data: bytes) -> int:
        self.size += len(data)
        if self._room is not None and self.size > self._room:
            raise NoRoomError
        self._sum.update(data)
        return self._file.write(data)

    @property
    def md5(self) -> str:
        return self._sum.hexdigest()


class NoRoomError(Exception):
    """The disk of the host is full."""


class BadPackError(Exception):
    """The file is no pack."""


def pack(folder: Path, target: Path, *, compress: bool, room: int | None = None) -> Packed:
    """Write the folder as a tar (gzipped with ``compress``); the same folder gives the same bytes.

    Raises ``NoRoomError`` after ``room`` bytes and leaves nothing then.
    """
    unpacked = 0
    try:
        with target.open("wb") as file:
            measured = _Measured(file, room)
            out = cast("IO[bytes]", measured)
            if compress:
                import gzip

                out = cast("IO[bytes]", gzip.GzipFile("", "wb", 6, out, mtime=0))
            with tarfile.open(fileobj=out, mode="w|", bufsize=PIECE) as tar:
                for path in sorted(folder.rglob("*")):
                    info = tar.gettarinfo(path, path.relative_to(folder.parent).as_posix())
                    info.mtime, info.uid, info.gid, info.uname, info.gname = 0, 0, 0, "", ""
                    if not path.is_file():
                        tar.addfile(info)
                        continue
                    unpacked += info.size
                    with path.open("rb") as source:
                        tar.addfile(info, source)
            if compress:
                out.close()
    except NoRoomError:
        target.unlink(missing_ok=True)
        raise
    return Packed(measured.size, unpacked, measured.md5)


def md5_of(path: Path) -> str:
    """Return the checksum of a file, read in pieces."""
    total = hashlib.md5(usedforsecurity=False)
    with path.open("rb") as file:
        while piece := file.read(PIECE):
            total.update(piece)
    return total.hexdigest()


def unpack(source: Path, target: Path, *, room: int | None = None) -> int:
    """Make ``target`` the folder that is in the pack; return its size in bytes.

    The name of the folder in the pack does not matter. Raises ``NoRoomError`` or ``BadPackError``
    and leaves nothing then. Nothing is written outside of ``target``.
    """
    work = target.with_name(f".{target.name}.unpacking")
    shutil.rmtree(work, ignore_errors=True)
    size = 0
    try:
        with tarfile.open(source, mode="r|*", bufsize=PIECE) as tar:
            for member in tar:
                size += member.size
                if room is not None and size > room:
                    raise NoRoomError
                _, _, rest = member.name.partition("/")
                if not rest:
                    continue
                member.name = rest
                tar.extract(member, work, filter="data")
        work.mkdir(parents=True, exist_ok=True)
        shutil.rmtree(target, ignore_errors=True)
        work.replace(target)
    except (tarfile.TarError, EOFError, OSError) as error:
        raise BadPackError(str(error)) from error
    finally:
        shutil.rmtree(work, ignore_errors=True)
    return size


def make_bundle(folder: Path, record: dict[str, Any], size: int) -> None:
    """Make a small folder like that of a VM: its settings, and a disk of ``size`` bytes."""
    disk = folder / "harddisk.hdd"
    disk.mkdir(parents=True)
    lines = "".join(f"<{name}>{value}</{name}>\n" for name, value in sorted(record.items()))
    (folder / "config.pvs").write_text(f"<ParallelsVirtualMachine>\n{lines}</…>\n")
    pattern = hashlib.sha256(str(sorted(record.items())).encode()).digest() * 2048
    with (disk / "harddisk.hdd.0.hds").open("wb") as file:
        while size > 0:
            file.write(pattern[: min(size, len(pattern))])
            size -= len(pattern)
