"""`azure-storage-account`, by Azure's own client."""

from __future__ import annotations

import base64
import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from urllib.parse import quote

import requests
from azure.core.exceptions import (
    AzureError,
    ClientAuthenticationError,
    HttpResponseError,
    ResourceNotFoundError,
)
from azure.core.pipeline.transport import RequestsTransport
from azure.storage.blob import (
    BlobBlock,
    BlobSasPermissions,
    ContainerClient,
    generate_blob_sas,
)

from catalog.storage.base import CHUNK, PartStorage, StorageError, Stored, Trouble, checked_key
from catalog.storage.connections import Provider
from catalog.storage.guard import SENTENCE, GuardedAdapter


class AzureStorage(PartStorage):
    """A container of a storage account."""

    def __init__(self, provider: Provider) -> None:
        self._account = provider.get("storage_account_name")
        self._key = provider.get("storage_account_key")
        self.container = provider.get("container_name")
        if not (self._account and self._key and self.container):
            raise StorageError(
                Trouble.SETTINGS,
                "Give storage_account_name, storage_account_key and container_name.",
            )
        # `endpoint` is ours: for Azurite, and for clouds with names of their own.
        endpoint = provider.get("endpoint") or f"https://{self._account}.blob.core.windows.net"
        session = requests.Session()
        session.trust_env = False
        session.mount("http://", GuardedAdapter())
        session.mount("https://", GuardedAdapter())
        with _plainly(self.container):
            self._client = ContainerClient(
                endpoint.rstrip("/"),
                self.container,
                credential={"account_name": self._account, "account_key": self._key},
                transport=RequestsTransport(session=session, session_owner=True),
                connection_timeout=5,
                read_timeout=30,
                retry_total=2,
                max_chunk_get_size=CHUNK,
                max_single_get_size=CHUNK,
            )

    def list(self, prefix: str = "") -> Iterator[Stored]:
        with _plainly(prefix):
            for blob in self._client.list_blobs(name_starts_with=prefix or None):
                yield Stored(blob.name, blob.size)

    def stat(self, key: str) -> Stored:
        with _plainly(key):
            found = self._client.get_blob_client(checked_key(key)).get_blob_properties()
        return Stored(key, found.size)

    def read(self, key: str, offset: int = 0) -> Iterator[bytes]:
        if offset and offset >= self.stat(key).size:
            return
        with _plainly(key):
            stream = self._client.download_blob(checked_key(key), offset=offset or None)
            yield from stream.chunks()

    def put(self, key: str, data: bytes) -> None:
        with _plainly(key):
            self._client.upload_blob(checked_key(key), data, overwrite=True)

    def delete(self, key: str) -> None:
        try:
            with _plainly(key):
                self._client.delete_blob(checked_key(key))
        except StorageError as error:
            if error.kind is not Trouble.MISSING:
                raise

    def download_url(self, key: str, seconds: int) -> str:
        return self._signed(key, seconds, BlobSasPermissions(read=True))

    def upload_url(self, key: str, seconds: int) -> str:
        return self._signed(key, seconds, BlobSasPermissions(create=True, write=True))

    def _signed(self, key: str, seconds: int, rights: BlobSasPermissions) -> str:
        with _plainly(key):
            signature = generate_blob_sas(
                self._account,
                self.container,
                checked_key(key),
                account_key=self._key,
                permission=rights,
                expiry=datetime.now(UTC) + timedelta(seconds=seconds),
            )
        return f"{self._client.get_blob_client(key).url}?{signature}"

    def begin_parts(self, key: str) -> str:
        return secrets.token_hex(8)  # Azure has no such thing: it marks the blocks

    def part_url(self, key: str, upload: str, number: int, seconds: int) -> str:
        url = self._signed(key, seconds, BlobSasPermissions(create=True, write=True))
        encoded = base64.b64encode(_block(upload, number).encode()).decode()
        return f"{url}&comp=block&blockid={quote(encoded, safe='')}"

    def stored_parts(self, key: str, upload: str) -> dict[int, int]:
        try:
            with _plainly(key):
                _, blocks = self._client.get_blob_client(checked_key(key)).get_block_list("all")
        except StorageError as error:
            if error.kind is Trouble.MISSING:  # without a block there is no blob
                return {}
            raise
        return {
            int(block.id.rpartition("-")[2]): int(block.size)
            for block in blocks
            if block.id.startswith(f"{upload}-")
        }

    def finish_parts(self, key: str, upload: str, count: int) -> None:
        blocks = [BlobBlock(_block(upload, number)) for number in range(1, count + 1)]
        with _plainly(key):
            self._client.get_blob_client(checked_key(key)).commit_block_list(blocks)

    def drop_parts(self, key: str, upload: str) -> None:
        """Azure deletes blocks that belong to no blob by itself, after a week."""

    def close(self) -> None:
        self._client.close()


def _block(upload: str, number: int) -> str:
    """Return the id of a block; those of one blob must be of one length."""
    return f"{upload}-{number:05}"


@contextmanager
def _plainly(key: str) -> Iterator[None]:
    """Turn what the client raises into the one error of storages."""
    try:
        yield
    except ResourceNotFoundError:
        raise StorageError(Trouble.MISSING, f"{key} is not in the storage.") from None
    except ClientAuthenticationError:
        raise StorageError(
            Trouble.CREDENTIALS, "The storage does not accept the keys of this source."
        ) from None
    except HttpResponseError as error:
        status = error.status_code or 0
        if status in (401, 403):
            raise StorageError(
                Trouble.CREDENTIALS, "The storage does not accept the keys of this source."
            ) from None
        kind = Trouble.AWAY if status >= 500 else Trouble.FAILED
        raise StorageError(kind, f"The storage refused {key} ({status}).") from None
    except AzureError as error:
        if SENTENCE in str(error):
            raise StorageError(Trouble.FORBIDDEN_ADDRESS, SENTENCE) from None
        raise StorageError(
            Trouble.AWAY, "The storage does not answer. Check its address."
        ) from None
    except ValueError as error:
        if SENTENCE in str(error):
            raise StorageError(Trouble.FORBIDDEN_ADDRESS, SENTENCE) from None
        raise StorageError(
            Trouble.SETTINGS, "Name, key or address of the storage account make no sense."
        ) from None
    except Exception as error:
        if SENTENCE in str(error):
            raise StorageError(Trouble.FORBIDDEN_ADDRESS, SENTENCE) from None
        raise
