"""Jobs on what is stored of an image: write its metadata, verify its pack, delete both."""

from __future__ import annotations

import hashlib
import time
from typing import TYPE_CHECKING

from django.db import transaction
from django.db.models.functions import Now

from accounts.audit import audit
from catalog import manifests
from catalog.models import Image
from catalog.storage import StorageError, Trouble, read_small
from catalog.stores import StorageHandler, storage_of
from events.publishing import publish
from jobs.outcomes import Again, Cancelled, Done, Fail, Outcome
from jobs.queueing import enqueue
from orchestrator.refusals import Conflict

if TYPE_CHECKING:
    from accounts.actors import Actor
    from jobs.claims import Claim
    from jobs.models import Job

WRITE, VERIFY, ERASE = "image.write_metadata", "image.verify", "image.erase"
NOTE_SECONDS = 1.0


def request(actor: Actor, image: Image) -> Job | None:
    """Have the stored metadata say what the catalog says; None where nothing is stored by us.

    In the caller's transaction. The job reads the image when it runs, so one that waits is enough;
    one that runs has read it already, hence another.
    """
    if not image.source.is_storage or not image.metadata_key:
        return None
    return enqueue(WRITE, f"image:{image.pk}", actor, message="Waiting to write the metadata.")


def request_deletion(actor: Actor, image: Image) -> Job:
    """Have pack and metadata deleted from storage. In the caller's transaction."""
    return enqueue(
        ERASE,
        f"image:{image.pk}",
        actor,
        unique_key=f"{ERASE}:{image.pk}",
        message="Waiting to delete it from storage.",
    )


def verify(actor: Actor, image: Image) -> Job:
    """Read the whole pack and compare its size and checksums with the manifest's.

    Raises `Forbidden`, or `Conflict` for an image whose pack is not in a storage of ours.
    """
    actor.require("images.manage")
    if not image.source.is_storage or not image.pack_key:
        raise Conflict("Its pack is not in a storage of this catalog, so it cannot be read.")
    with transaction.atomic():
        actor.take()
        key = f"{VERIFY}:{image.pk}"
        audit(actor, VERIFY, f"image:{image.pk}", image.name)
        return enqueue(VERIFY, f"image:{image.pk}", actor, unique_key=key, message="Waiting.")


def image_of(job: Job) -> Image | None:
    """Return the image a job is about, also one that was deleted from the catalog meanwhile."""
    return Image.objects.select_related("source").filter(pk=job.subject_id).first()


class WriteHandler(StorageHandler):
    """`image.write_metadata`: ours over what is there; an image deleted meanwhile is left alone."""

    first = "write"
    calls = frozenset({"write"})

    def step_write(self, claim: Claim) -> Outcome:
        image = image_of(claim.job)
        if image is None or image.removed_at:
            return Done(message="The image was deleted meanwhile.")
        with storage_of(image.source) as storage:
            try:
                before = read_small(storage, image.metadata_key)
            except StorageError as error:
                if error.kind is not Trouble.MISSING:
                    raise
                before = None
            data = manifests.written(_reread(image), before)
            with claim.sending("Writing the metadata.", progress=50):
                storage.put(image.metadata_key, data)
        # A later change may have been written before this one: whoever is last writes what is so.
        if manifests.written(_reread(image), before) != data:
            return Again(message="It was changed meanwhile.")
        return Done(message="The stored metadata says it, too.")


def _reread(image: Image) -> Image:
    return Image.objects.select_related("source").get(pk=image.pk)


class EraseHandler(StorageHandler):
    """`image.erase`: the metadata goes first, so that no import finds it without its pack."""

    first = "erase"
    calls = frozenset({"erase"})

    def step_erase(self, claim: Claim) -> Outcome:
        image = image_of(claim.job)
        if image is None:
            return Cancelled()
        with storage_of(image.source) as storage:
            for key in filter(None, (image.metadata_key, image.pack_key)):
                with claim.sending(f"Deleting {key}.", progress=50):
                    storage.delete(key)
        return Done(message="It is not in storage any more.")


class VerifyHandler(StorageHandler):
    """`image.verify`: reads the pack in pieces; nothing of it is kept."""

    first = "read"
    calls = frozenset({"read"})
    cancellable = True

    def step_read(self, claim: Claim) -> Outcome:
        image = image_of(claim.job)
        if image is None or image.removed_at:
            return Fail("The image was deleted meanwhile.")
        try:
            with storage_of(image.source) as storage:
                problem = self._compare(claim, image, storage.stat(image.pack_key).size)
        except StorageError as error:
            if error.kind is not Trouble.MISSING:
                raise
            problem = error.message
        with transaction.atomic():
            Image.objects.filter(pk=image.pk).update(
                verified_at=Now(), verify_problem=problem[:300]
            )
            publish("image.verified", f"image:{image.pk}", permission="images.view")
        if problem:
            return Fail(problem)
        return Done(message="Size and checksums are right.", result={"bytes": image.pack_bytes})

    def _compare(self, claim: Claim, image: Image, size: int) -> str:
        """Return what is wrong with the pack, or nothing."""
        if image.pack_bytes is not None and size != image.pack_bytes:
            return f"The pack has {size} bytes, and the manifest says {image.pack_bytes}."
        if not (image.sha256 or image.md5):
            return "The manifest has no checksum to compare with."
        sha256, md5 = hashlib.sha256(), hashlib.md5(usedforsecurity=False)
        done, told = 0, time.monotonic()
        with storage_of(image.source) as storage:
            for piece in storage.read(image.pack_key):
                sha256.update(piece)
                md5.update(piece)
                done += len(piece)
                if time.monotonic() - told > NOTE_SECONDS:
                    told = time.monotonic()
                    claim.note(f"Read {done} of {size} bytes.", 99 * done // max(1, size))
        if done != size:
            raise StorageError(Trouble.AWAY, "The storage ended its answer too early.")
        if image.sha256 and sha256.hexdigest() != image.sha256:
            return "The pack's SHA-256 is not the manifest's. Push it again."
        if image.md5 and md5.hexdigest() != image.md5:
            return "The pack's MD5 is not the manifest's. Push it again."
        return ""


HANDLERS = {WRITE: WriteHandler(), VERIFY: VerifyHandler(), ERASE: EraseHandler()}
