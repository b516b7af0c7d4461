"""`local-storage`: a folder on this machine, or mounted on it and on the hosts."""

from __future__ import annotations

import errno
import os
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

from catalog.storage.base import CHUNK, Storage, StorageError, Stored, Trouble, checked_key
from catalog.storage.connections import Provider


class LocalStorage(Storage):
    """A folder below one of `roots`, which the settings allow. No link leads out of it."""

    def __init__(self, provider: Provider, roots: Sequence[Path]) -> None:
        path = provider.get("catalog_path")
        if not path:
            raise StorageError(Trouble.SETTINGS, "Name the folder: catalog_path=/….")
        folder = Path(path).resolve()
        allowed = [root.resolve() for root in roots]
        if not any(folder.is_relative_to(root) for root in allowed):
            raise StorageError(
                Trouble.SETTINGS,
                "This folder is not below one of CATALOG_FOLDERS. Use one that is, or have it "
                "added to that setting.",
            )
        self.folder = folder

    def _path(self, key: str) -> Path:
        path = (self.folder / checked_key(key)).resolve()
        if not path.is_relative_to(self.folder):
            raise StorageError(Trouble.SETTINGS, f"{key} leads out of the storage's folder.")
        return path

    def list(self, prefix: str = "") -> Iterator[Stored]:
        with _plainly(prefix):
            for path in sorted(self.folder.rglob("*")):
                key = path.relative_to(self.folder).as_posix()
                if key.startswith(prefix) and path.is_file() and not path.is_symlink():
                    yield Stored(key, path.stat().st_size)

    def stat(self, key: str) -> Stored:
        with _plainly(key):
            return Stored(key, self._path(key).stat().st_size)

    def read(self, key: str, offset: int = 0) -> Iterator[bytes]:
        with _plainly(key), self._path(key).open("rb") as file:
            file.seek(offset)
            while piece := file.read(CHUNK):
                yield piece

    def put(self, key: str, data: bytes) -> None:
        path = self._path(key)
        with _plainly(key):
            path.parent.mkdir(parents=True, exist_ok=True)
            handle, name = tempfile.mkstemp(dir=path.parent, prefix=".put-")
            try:
                with os.fdopen(handle, "wb") as file:
                    file.write(data)
                    file.flush()
                    os.fsync(file.fileno())
                Path(name).replace(path)
            except BaseException:
                Path(name).unlink(missing_ok=True)
                raise

    def delete(self, key: str) -> None:
        path = self._path(key)
        with _plainly(key):
            path.unlink(missing_ok=True)
            if path.parent != self.folder and path.parent.is_dir():
                with suppress(OSError):  # not empty
                    path.parent.rmdir()

    def download_url(self, key: str, seconds: int) -> str:
        return ""  # the host reads the folder itself

    def upload_url(self, key: str, seconds: int) -> str:
        return ""

    def close(self) -> None:
        """There is nothing to let go."""


@contextmanager
def _plainly(key: str) -> Iterator[None]:
    try:
        yield
    except FileNotFoundError:
        raise StorageError(Trouble.MISSING, f"{key} is not in the storage.") from None
    except PermissionError:
        raise StorageError(
            Trouble.CREDENTIALS, f"The product may not use {key} in the storage's folder."
        ) from None
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise StorageError(Trouble.FULL, "The storage is full. Make room there.") from None
        raise StorageError(Trouble.FAILED, f"{key}: {error.strerror or error}.") from None
