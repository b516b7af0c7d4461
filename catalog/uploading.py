"""Uploads of packs in parts, by signed addresses: of any size, and gone on with after a failure.

A host that pushes gets an address of ours. There it tells size and MD5 of its pack, and gets a
sheet: every part with its signed address, and whether it is stored already. When all are stored it
says so at the same address, and the storage puts them together.
"""

from __future__ import annotations

import re
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING, Any

from django.conf import settings
from django.core import signing
from django.db import IntegrityError, transaction
from django.utils import timezone

from accounts.actors import SYSTEM
from catalog.models import CatalogSource, PackUpload
from catalog.relay import MIB, PATH
from catalog.storage import PartStorage, StorageError, Trouble
from catalog.stores import StorageHandler, storage_of
from hosts.models import Host
from jobs.models import Job
from jobs.outcomes import Done, Outcome
from jobs.queueing import enqueue
from orchestrator.refusals import Conflict, Forbidden, Invalid

if TYPE_CHECKING:
    from collections.abc import Iterator

    from catalog.models import Image
    from jobs.claims import Claim

DROP = "image.drop_upload"
UPLOADS = f"{PATH}uploads/"
SMALLEST = 16 * MIB  # of a part; S3 takes none below 5 MiB but the last
MOST_PARTS = 2000
LARGEST = 5 * 1024**4  # of an object on S3
_SALT = "catalog.uploads"
_MD5 = re.compile(r"[0-9a-f]{32}")
_SIZE = re.compile(r"[0-9]{1,13}")


@dataclass(frozen=True)
class Pack:
    """A pack that a host wants to upload, by an address of ours."""

    source: CatalogSource
    key: str
    size: int
    md5: str


def address_of(job: Job, image: Image) -> str:
    """Return where the host of a push uploads its pack in parts; a secret. Empty: nowhere."""
    if not settings.PUBLIC_URL:
        return ""
    names = [str(job.pk), str(image.source_id), image.pack_key]
    return f"{settings.PUBLIC_URL}{UPLOADS}{signing.dumps(names, salt=_SALT)}"


def sheet(token: str, size: str, md5: str) -> dict[str, Any]:
    """Return what is to be uploaded: `part_bytes`, and `parts` with `url` and whether `stored`.

    An upload of the same pack that was interrupted is gone on with; that of another one under its
    name is dropped. Raises as `finish`.
    """
    pack = _pack_of(token, size, md5)
    with _opened(pack) as storage:
        row, stored = _upload_of(storage, pack)
        seconds = settings.CATALOG_UPLOAD_SECONDS
        parts = [
            {
                "number": number,
                "offset": offset,
                "size": length,
                "stored": stored.get(number) == length,
                "url": storage.part_url(pack.key, row.upload, number, seconds),
            }
            for number, offset, length in _parts(row)
        ]
    return {"part_bytes": row.part_bytes, "parts": parts}


def finish(token: str, size: str, md5: str) -> dict[str, Any]:
    """Have the storage put the parts together; the same again does nothing.

    Raises `Invalid` for a size or checksum that is none, `Forbidden` for an address that is none or
    whose push has ended, `Conflict` for parts that are missing, or what the storage says.
    """
    pack = _pack_of(token, size, md5)
    with _opened(pack) as storage:
        row = PackUpload.objects.filter(
            source=pack.source, key=pack.key, size=pack.size, md5=pack.md5
        ).first()
        if row is None:
            if storage.stat(pack.key).size == pack.size:
                return {"size": pack.size}
            raise Conflict("There is no such upload. Ask for its parts first.")
        stored = storage.stored_parts(pack.key, row.upload)
        parts = list(_parts(row))
        missing = [number for number, _, length in parts if stored.get(number) != length]
        if missing:
            raise Conflict(f"{len(missing)} of {len(parts)} parts are missing. Upload them first.")
        storage.finish_parts(pack.key, row.upload, len(parts))
    row.delete()
    return {"size": pack.size}


def _pack_of(token: str, size: str, md5: str) -> Pack:
    """Return what an address of a push that is under way stands for; raises as `finish`."""
    refused = Forbidden("This address is not good (any more). Push again.", code="ticket")
    try:
        job_id, source_id, key = signing.loads(token, salt=_SALT)
    except signing.BadSignature:
        raise refused from None
    job = Job.objects.open().filter(pk=job_id).first()
    if job is None or not Host.objects.present().filter(pk=job.subject_id).exists():
        raise refused
    source = CatalogSource.objects.present().filter(pk=source_id, active=True).first()
    if source is None:
        raise refused
    if not _SIZE.fullmatch(size) or not 1 <= int(size) <= LARGEST:
        raise Invalid.field("size", f"Give the pack's size, from 1 to {LARGEST} bytes.")
    if not _MD5.fullmatch(md5):
        raise Invalid.field("md5", "Give the pack's MD5 as 32 digits of hexadecimal.")
    return Pack(source, key, int(size), md5)


@contextmanager
def parts_of(source: CatalogSource) -> Iterator[PartStorage]:
    """Open a storage that takes parts; raises `StorageError`, also for one that takes none."""
    with storage_of(source) as storage:
        if not isinstance(storage, PartStorage):
            raise StorageError(Trouble.SETTINGS, "This storage takes no uploads in parts.")
        yield storage


@contextmanager
def _opened(pack: Pack) -> Iterator[PartStorage]:
    """Open the storage; what it says no with becomes a refusal."""
    try:
        with parts_of(pack.source) as storage:
            yield storage
    except StorageError as error:
        raise Conflict(error.message, code="storage") from None


def _upload_of(storage: PartStorage, pack: Pack) -> tuple[PackUpload, dict[int, int]]:
    """Return the upload of this pack, begun if there is none, and the sizes of its stored parts."""
    rows = PackUpload.objects.filter(source=pack.source, key=pack.key)
    if row := rows.first():
        if (row.size, row.md5) == (pack.size, pack.md5):
            try:
                return row, storage.stored_parts(pack.key, row.upload)
            except StorageError as error:
                if error.kind is not Trouble.MISSING:
                    raise  # else it was dropped there
        else:
            storage.drop_parts(pack.key, row.upload)
        row.delete()
    upload = storage.begin_parts(pack.key)
    try:
        with transaction.atomic():
            row = PackUpload.objects.create(
                source=pack.source,
                key=pack.key,
                upload=upload,
                size=pack.size,
                md5=pack.md5,
                part_bytes=_part_bytes(pack.size),
            )
    except IntegrityError:
        storage.drop_parts(pack.key, upload)
        raise Conflict("Another upload of this pack has just begun. Ask again.") from None
    return row, {}


def _part_bytes(size: int) -> int:
    """Return how large a part is: whole MiB, so that there are at most `MOST_PARTS`."""
    return max(SMALLEST, -(-size // MOST_PARTS // MIB) * MIB)


def _parts(row: PackUpload) -> Iterator[tuple[int, int, int]]:
    """Yield number, offset and size of each part."""
    for number, offset in enumerate(range(0, row.size, row.part_bytes), 1):
        yield number, offset, min(row.part_bytes, row.size - offset)


def drop_old() -> int:
    """Have the parts of uploads deleted that nobody went on with; return how many uploads."""
    limit = timezone.now() - timedelta(days=settings.CATALOG_UPLOAD_DAYS)
    rows = PackUpload.objects.filter(created_at__lt=limit)[:100]
    for row in rows:
        with transaction.atomic():
            enqueue(
                DROP,
                f"source:{row.source_id}",
                SYSTEM,
                payload={"upload": str(row.pk)},
                unique_key=f"{DROP}:{row.pk}",
                message=f"Waiting to delete the parts of {row.key}.",
            )
    return len(rows)


class DropHandler(StorageHandler):
    """`image.drop_upload`: a storage keeps, and bills, the parts of an upload that never ended."""

    first = "drop"
    calls = frozenset({"drop"})

    def step_drop(self, claim: Claim) -> Outcome:
        rows = PackUpload.objects.select_related("source")
        row = rows.filter(pk=claim.job.payload["upload"]).first()
        if row is None:
            return Done(message="It was finished, or dropped.")
        if row.source.removed_at is None:
            with parts_of(row.source) as storage, claim.sending("Deleting the parts.", 50):
                storage.drop_parts(row.key, row.upload)
        row.delete()
        return Done(message=f"The parts of {row.key} are deleted.")


HANDLERS = {DROP: DropHandler()}
