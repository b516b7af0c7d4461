"""Where packs lie: reading and writing them from a host, and going on where it was interrupted.

A host reaches a folder (``local-storage``), a signed address, or Artifactory with its token. It has
no client that signs requests itself: of a bucket it needs signed addresses.
"""

from __future__ import annotations

import http.client
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import quote, urlsplit

from hosts.simulator.packs import PIECE, NoRoomError
from hosts.simulator.wire import RefusedError

SECONDS = 30
Progress = Callable[[int], None]


@dataclass(frozen=True, slots=True)
class Place:
    """One object in a storage: a file, or an address with what goes with a request to it."""

    path: Path | None = None
    url: str = ""
    headers: dict[str, str] = field(default_factory=dict)


def place(kind: str, meta: dict[str, str], folder: str, name: str, signed: str) -> Place:
    """Return where an object is. ``signed`` is its address, where the provider came with one.

    Raises ``RefusedError`` 400 for a provider that this host has no client for.
    """
    if signed:
        azure = {"x-ms-blob-type": "BlockBlob"} if kind == "azure-storage-account" else {}
        return Place(url=signed, headers=azure)
    if kind == "local-storage" and meta.get("catalog_path"):
        return Place(path=Path(meta["catalog_path"]) / folder / name)
    if kind == "artifactory" and meta.get("url"):
        url = (
            f"{meta['url'].rstrip('/')}/{quote(meta.get('repo', ''))}/{quote(folder)}/{quote(name)}"
        )
        return Place(url=url, headers={"Authorization": f"Bearer {meta.get('access_key', '')}"})
    raise RefusedError(400, f"error 400: this host has no client for {kind or 'no provider'}")


@contextmanager
def asking(
    method: str, url: str, headers: dict[str, str], body: Iterable[bytes] | None = None
) -> Iterator[http.client.HTTPResponse]:
    """Send one request; raises ``HTTPException`` or ``OSError``, and ``ValueError`` for no URL."""
    parts = urlsplit(url)
    kind = http.client.HTTPSConnection if parts.scheme == "https" else http.client.HTTPConnection
    connection = kind(parts.hostname or "", parts.port, timeout=SECONDS)
    try:
        target = parts.path + (f"?{parts.query}" if parts.query else "")
        connection.request(method, target or "/", body, headers)
        yield connection.getresponse()
    finally:
        connection.close()


def fetch(
    source: Place, target: Path, *, room: int | None, progress: Progress, cut: int | None = None
) -> bool:
    """Read an object into a file; one that is there is gone on with. Return whether it was.

    ``cut`` ends it after so many bytes, as a lost connection would. Raises ``RefusedError`` 400,
    or ``NoRoomError``; what was read stays.
    """
    done = target.stat().st_size if target.exists() else 0
    resumed = done > 0
    target.parent.mkdir(parents=True, exist_ok=True)
    try:
        with target.open("ab") as file:
            for piece in _read(source, done):
                if room is not None and done + len(piece) > room:
                    raise NoRoomError
                if cut is not None and done + len(piece) > cut:
                    file.write(piece[: max(0, cut - done)])
                    raise RefusedError(400, "error 400: the connection to the storage was lost")
                file.write(piece)
                done += len(piece)
                progress(done)
    except (http.client.HTTPException, OSError) as error:
        raise RefusedError(400, f"error 400: cannot read the pack: {said(error)}") from None
    return resumed


def _read(source: Place, offset: int) -> Iterator[bytes]:
    if source.path is not None:
        with source.path.open("rb") as file:
            file.seek(offset)
            while piece := file.read(PIECE):
                yield piece
        return
    headers = {**source.headers, **({"Range": f"bytes={offset}-"} if offset else {})}
    headers.pop("x-ms-blob-type", None)
    with asking("GET", source.url, headers) as answer:
        if answer.status == 416:
            return
        if answer.status != (206 if offset else 200):
            raise RefusedError(400, f"error 400: the storage answered {answer.status}")
        while piece := answer.read(PIECE):
            yield piece


def send(source: Path, target: Place, *, progress: Progress, cut: int | None = None) -> bool:
    """Write a file to a storage, where it appears whole; return whether an earlier try went on.

    By one PUT nothing stays of a try that was interrupted; a folder keeps it. Raises as ``fetch``.
    """
    try:
        if target.path is None:
            _put(source, target, progress, cut)
            return False
        return _copy(source, target.path, progress, cut)
    except (http.client.HTTPException, OSError) as error:
        raise RefusedError(400, f"error 400: cannot write the pack: {said(error)}") from None


def _copy(source: Path, target: Path, progress: Progress, cut: int | None) -> bool:
    target.parent.mkdir(parents=True, exist_ok=True)
    part = target.with_name(f"{target.name}.part")
    done = part.stat().st_size if part.exists() else 0
    if done > source.stat().st_size:
        part.unlink()
        done = 0
    resumed = done > 0
    with part.open("ab") as file:
        for piece in _pieces(source, done, cut):
            file.write(piece)
            done += len(piece)
            progress(done)
    part.replace(target)
    return resumed


def _put(source: Path, target: Place, progress: Progress, cut: int | None) -> None:
    def body() -> Iterator[bytes]:
        done = 0
        for piece in _pieces(source, 0, cut):
            yield piece
            done += len(piece)
            progress(done)

    headers = {**target.headers, "Content-Length": str(source.stat().st_size)}
    with asking("PUT", target.url, headers, body()) as answer:
        if answer.status >= 300:
            raise RefusedError(400, f"error 400: the storage answered {answer.status}")


def _pieces(source: Path, offset: int, cut: int | None) -> Iterator[bytes]:
    done = offset
    with source.open("rb") as file:
        file.seek(offset)
        while piece := file.read(PIECE):
            if cut is not None and done + len(piece) > cut:
                yield piece[: max(0, cut - done)]
                raise RefusedError(400, "error 400: the connection to the storage was lost")
            yield piece
            done += len(piece)


def said(error: Exception) -> str:
    """Return what may be told: no address, for it may hold a signature."""
    told = error.strerror if isinstance(error, OSError) else ""
    return told or type(error).__name__
