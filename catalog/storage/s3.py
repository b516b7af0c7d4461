"""`aws-s3` and `minio`, by boto3."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import boto3
from botocore.config import Config
from botocore.exceptions import BotoCoreError, ClientError

from catalog.storage.base import CHUNK, PartStorage, StorageError, Stored, Trouble, checked_key
from catalog.storage.connections import Provider
from catalog.storage.guard import BOTO_POOLS, SENTENCE, ForbiddenAddress

_MISSING = {"404", "NoSuchKey", "NoSuchBucket", "NoSuchUpload", "NotFound"}
_DENIED = {
    *("403", "401", "AccessDenied", "InvalidAccessKeyId", "SignatureDoesNotMatch"),
    *("ExpiredToken", "InvalidToken"),
}
_CONFIG = Config(
    connect_timeout=5,
    read_timeout=30,
    retries={"max_attempts": 3, "mode": "standard"},
    signature_version="s3v4",
    s3={"addressing_style": "path"},
    # Older MinIO knows none of the newer checksums.
    request_checksum_calculation="when_required",
    response_checksum_validation="when_required",
    proxies={},
)


class S3Storage(PartStorage):
    """A bucket."""

    def __init__(self, provider: Provider, *, environment_keys: bool = False) -> None:
        self.bucket = provider.get("bucket")
        if not self.bucket:
            raise StorageError(Trouble.SETTINGS, "Name the bucket: bucket=….")
        keys: dict[str, str] = {}
        if provider.flag("use_environment_authentication"):
            if not environment_keys:
                raise StorageError(
                    Trouble.SETTINGS,
                    "This product lends its own keys to no source (CATALOG_ENVIRONMENT_KEYS). "
                    "Give access_key and secret_key.",
                )
        else:
            keys = {
                "aws_access_key_id": provider.get("access_key"),
                "aws_secret_access_key": provider.get("secret_key"),
            }
            if not all(keys.values()):
                raise StorageError(
                    Trouble.SETTINGS, "Give access_key and secret_key of the storage."
                )
            keys["aws_session_token"] = provider.get("session_token")
        with _plainly(self.bucket):
            self._client = boto3.session.Session().client(
                "s3",
                region_name=provider.get("region") or "us-east-1",
                endpoint_url=_endpoint(provider),
                verify=not provider.flag("ignore_cert"),
                config=_CONFIG,
                **{name: value for name, value in keys.items() if value},
            )
            # What is guarded is the connection: boto3 offers no hook for it.
            self._client._endpoint.http_session._manager.pool_classes_by_scheme = BOTO_POOLS

    def list(self, prefix: str = "") -> Iterator[Stored]:
        with _plainly(prefix):
            pages = self._client.get_paginator("list_objects_v2")
            for page in pages.paginate(Bucket=self.bucket, Prefix=prefix):
                for row in page.get("Contents", ()):
                    yield Stored(row["Key"], row["Size"])

    def stat(self, key: str) -> Stored:
        with _plainly(key):
            answer = self._client.head_object(Bucket=self.bucket, Key=checked_key(key))
        return Stored(key, answer["ContentLength"])

    def read(self, key: str, offset: int = 0) -> Iterator[bytes]:
        if offset and offset >= self.stat(key).size:
            return
        asked = {"Range": f"bytes={offset}-"} if offset else {}
        with _plainly(key):
            answer = self._client.get_object(Bucket=self.bucket, Key=checked_key(key), **asked)
            yield from answer["Body"].iter_chunks(CHUNK)

    def put(self, key: str, data: bytes) -> None:
        with _plainly(key):
            self._client.put_object(Bucket=self.bucket, Key=checked_key(key), Body=data)

    def delete(self, key: str) -> None:
        with _plainly(key):
            self._client.delete_object(Bucket=self.bucket, Key=checked_key(key))

    def download_url(self, key: str, seconds: int) -> str:
        return self._signed("get_object", key, seconds)

    def upload_url(self, key: str, seconds: int) -> str:
        return self._signed("put_object", key, seconds)

    def _signed(self, operation: str, key: str, seconds: int, **more: object) -> str:
        with _plainly(key):
            url: str = self._client.generate_presigned_url(
                operation,
                Params={"Bucket": self.bucket, "Key": checked_key(key), **more},
                ExpiresIn=seconds,
            )
        return url

    def begin_parts(self, key: str) -> str:
        with _plainly(key):
            answer = self._client.create_multipart_upload(Bucket=self.bucket, Key=checked_key(key))
        return str(answer["UploadId"])

    def part_url(self, key: str, upload: str, number: int, seconds: int) -> str:
        return self._signed("upload_part", key, seconds, UploadId=upload, PartNumber=number)

    def stored_parts(self, key: str, upload: str) -> dict[int, int]:
        return {number: size for number, (size, _) in self._parts(key, upload).items()}

    def finish_parts(self, key: str, upload: str, count: int) -> None:
        tags = self._parts(key, upload)
        parts = [{"PartNumber": number, "ETag": tags[number][1]} for number in range(1, count + 1)]
        with _plainly(key):
            self._client.complete_multipart_upload(
                Bucket=self.bucket,
                Key=checked_key(key),
                UploadId=upload,
                MultipartUpload={"Parts": parts},
            )

    def drop_parts(self, key: str, upload: str) -> None:
        try:
            with _plainly(key):
                self._client.abort_multipart_upload(
                    Bucket=self.bucket, Key=checked_key(key), UploadId=upload
                )
        except StorageError as error:
            if error.kind is not Trouble.MISSING:
                raise

    def _parts(self, key: str, upload: str) -> dict[int, tuple[int, str]]:
        """Return size and tag of each part that is stored."""
        with _plainly(key):
            pages = self._client.get_paginator("list_parts").paginate(
                Bucket=self.bucket, Key=checked_key(key), UploadId=upload
            )
            return {
                row["PartNumber"]: (row["Size"], row["ETag"])
                for page in pages
                for row in page.get("Parts", ())
            }

    def close(self) -> None:
        self._client.close()


def _endpoint(provider: Provider) -> str | None:
    """Return the address of a storage that is not Amazon's own."""
    endpoint = provider.get("endpoint")
    if provider.type == "minio" and not endpoint:
        raise StorageError(Trouble.SETTINGS, "Give the address of MinIO: endpoint=….")
    if endpoint and "://" not in endpoint:
        scheme = "https" if provider.flag("use_ssl", default=True) else "http"
        endpoint = f"{scheme}://{endpoint}"
    return endpoint or None


@contextmanager
def _plainly(key: str) -> Iterator[None]:
    """Turn what boto3 raises into the one error of storages. Its texts may quote keys: no."""
    try:
        yield
    except ClientError as error:
        raise _told(key, error.response) from None
    except ForbiddenAddress:
        raise StorageError(Trouble.FORBIDDEN_ADDRESS, SENTENCE) from None
    except (BotoCoreError, ValueError) as error:
        if SENTENCE in str(error):
            raise StorageError(Trouble.FORBIDDEN_ADDRESS, SENTENCE) from None
        raise StorageError(
            Trouble.SETTINGS if isinstance(error, ValueError) else Trouble.AWAY,
            f"The storage does not answer ({type(error).__name__}). Check its address.",
        ) from None


def _told(key: str, answer: dict[str, Any]) -> StorageError:
    code = str(answer.get("Error", {}).get("Code", ""))
    status = answer.get("ResponseMetadata", {}).get("HTTPStatusCode", 0)
    if code in _MISSING:
        what = "The bucket" if code == "NoSuchBucket" else key
        return StorageError(Trouble.MISSING, f"{what} is not in the storage.")
    if code in _DENIED or status in (401, 403):
        return StorageError(
            Trouble.CREDENTIALS, "The storage does not accept the keys of this source."
        )
    if code in ("EntityTooLarge", "QuotaExceeded", "XMinioStorageFull") or status == 507:
        return StorageError(Trouble.FULL, "The storage is full. Make room there.")
    kind = Trouble.AWAY if status >= 500 else Trouble.FAILED
    return StorageError(kind, f"The storage refused {key} ({code or status}).")
