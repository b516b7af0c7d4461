"""`artifactory`, by its REST API: deploy, retrieve, delete, and the file list of a folder."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from urllib.parse import quote, urlsplit

import httpx

from catalog.storage.base import CHUNK, Storage, StorageError, Stored, Trouble, checked_key
from catalog.storage.connections import Provider
from catalog.storage.guard import ForbiddenAddress, httpx_client


class ArtifactoryStorage(Storage):
    """A repository. It signs no addresses that this could use: hosts get the token."""

    def __init__(self, provider: Provider) -> None:
        self.repo = provider.get("repo")
        if not (provider.get("url") and self.repo):
            raise StorageError(Trouble.SETTINGS, "Give url and repo of Artifactory.")
        self.url = base_url(provider)
        headers, auth = {}, None
        if token := provider.get("access_key"):
            headers = {"Authorization": f"Bearer {token}"}
        elif provider.get("username"):
            auth = (provider.get("username"), provider.get("password"))
        self._client = httpx_client(
            headers=headers, auth=auth, timeout=httpx.Timeout(30, connect=5)
        )

    def _at(self, key: str) -> str:
        return f"{self.url}/{quote(self.repo)}/{quote(checked_key(key))}"

    def list(self, prefix: str = "") -> Iterator[Stored]:
        url = f"{self.url}/api/storage/{quote(self.repo)}/"
        answer = self._ask("GET", url, prefix, params={"list": "", "deep": "1"})
        try:
            files = answer.json()["files"]
            rows = [(str(row["uri"]).lstrip("/"), int(row["size"])) for row in files]
        except (ValueError, KeyError, TypeError):
            raise StorageError(
                Trouble.FAILED, "The answer is none of Artifactory. Check url and repo."
            ) from None
        for key, size in rows:
            if key.startswith(prefix) and size >= 0:  # a folder has -1
                yield Stored(key, size)

    def stat(self, key: str) -> Stored:
        answer = self._ask("HEAD", self._at(key), key)
        return Stored(key, int(answer.headers.get("content-length", 0)))

    def read(self, key: str, offset: int = 0) -> Iterator[bytes]:
        headers = {"Range": f"bytes={offset}-"} if offset else {}
        with _plainly(key), self._client.stream("GET", self._at(key), headers=headers) as answer:
            if answer.status_code == 416:
                return
            _check(answer, key)
            if offset and answer.status_code != 206:
                raise StorageError(Trouble.FAILED, "The storage cannot go on in the middle.")
            yield from answer.iter_bytes(CHUNK)

    def put(self, key: str, data: bytes) -> None:
        self._ask("PUT", self._at(key), key, content=data)

    def delete(self, key: str) -> None:
        try:
            self._ask("DELETE", self._at(key), key)
        except StorageError as error:
            if error.kind is not Trouble.MISSING:
                raise

    def download_url(self, key: str, seconds: int) -> str:
        return ""

    def upload_url(self, key: str, seconds: int) -> str:
        return ""

    def close(self) -> None:
        self._client.close()

    def _ask(self, method: str, url: str, key: str, **options: object) -> httpx.Response:
        with _plainly(key):
            answer = self._client.request(method, url, **options)  # type: ignore[arg-type]
        _check(answer, key)
        return answer


def base_url(provider: Provider) -> str:
    """Return where Artifactory is: the URL, with the port when that is given apart."""
    url = provider.get("url").rstrip("/")
    if "://" not in url:
        url = f"https://{url}"
    port = provider.get("port")
    if port and urlsplit(url).port is None:
        scheme, _, rest = url.partition("://")
        host, slash, path = rest.partition("/")
        url = f"{scheme}://{host}:{port}{slash}{path}"
    return url


def _check(answer: httpx.Response, key: str) -> None:
    status = answer.status_code
    if status < 300:
        return
    if status == 404:
        raise StorageError(Trouble.MISSING, f"{key} is not in the storage.")
    if status in (401, 403):
        raise StorageError(
            Trouble.CREDENTIALS, "The storage does not accept the login of this source."
        )
    if status in (413, 507):
        raise StorageError(Trouble.FULL, "The storage is full. Make room there.")
    kind = Trouble.AWAY if status >= 500 else Trouble.FAILED
    raise StorageError(kind, f"The storage refused {key} ({status}).")


@contextmanager
def _plainly(key: str) -> Iterator[None]:
    try:
        yield
    except ForbiddenAddress as error:
        raise StorageError(Trouble.FORBIDDEN_ADDRESS, str(error)) from None
    except (httpx.InvalidURL, httpx.UnsupportedProtocol):
        raise StorageError(Trouble.SETTINGS, "The storage's address is none.") from None
    except httpx.HTTPError:
        raise StorageError(
            Trouble.AWAY, "The storage does not answer. Check its address."
        ) from None
