"""Pushing a VM of a host into a storage: the host packs and writes, the catalog reads and lists."""

from __future__ import annotations

import hashlib
import time
from typing import TYPE_CHECKING, Any

from django.conf import settings
from django.db import transaction
from django.utils import timezone

from accounts.actors import Actor
from accounts.audit import audit
from catalog import copies, handing, images, importing, manifests, uploading
from catalog.cache_jobs import CacheHandler
from catalog.manifests import BadManifest
from catalog.metadata import NOTE_SECONDS
from catalog.models import LATEST, CatalogSource, Image
from catalog.storage import StorageError, Trouble, read_small
from catalog.stores import StorageHandler, storage_of
from hosts.calls import driver_of
from hosts.drivers.base import ErrorKind, HostError, PushSpec
from hosts.models import Host, HostVM
from jobs.models import Job
from jobs.outcomes import Again, Done, Fail, Outcome
from jobs.queueing import enqueue
from orchestrator.db.locks import go_first
from orchestrator.refusals import Conflict, Invalid, NotFound, Refusal

if TYPE_CHECKING:
    from collections.abc import Sequence

    from jobs.claims import Claim

PUSH = "image.push"
STILL = ("stopped", "suspended")  # states of a VM whose disk does not change


def push(
    actor: Actor,
    source: CatalogSource,
    host: Host,
    *,
    vm: str = "",
    local_path: str = "",
    catalog_id: str,
    version: str,
    description: str = "",
    tags: Sequence[str] = (),
    required_roles: Sequence[str] = (),
    required_claims: Sequence[str] = (),
    minimum_cpus: int = 0,
    minimum_memory_mib: int = 0,
    minimum_disk_gib: int = 0,
    compress: bool = True,
    override: bool = False,
) -> Job:
    """Have `host` pack a VM (its name or id there, or its folder) into the storage `source`.

    The image gets the host's architecture and the tag `latest`. The job ends when the catalog has
    read the pack and its checksum is right; its result names the image. Raises `Forbidden`,
    `Invalid`, `NotFound`, or `Conflict`: a VM that is not stopped, a name that is taken without
    `override`, an image that was revoked, a source that is no storage or switched off.
    """
    actor.require("images.manage")
    actor.require("hosts.manage")
    row = _vm_of(host, vm, local_path)
    if row.state not in STILL:
        raise Conflict(f"{row.name} is {row.state}. Stop it first: its disk changes while it runs.")
    if not source.is_storage or not source.active:
        raise Conflict(f"{source.name} is no storage, or switched off. Choose another one.")
    architecture = host.status.architecture
    image = _image(source, catalog_id, version, architecture)
    wish: dict[str, Any] = {
        "description": description.strip()[:2000],
        "tags": sorted({*(tag.strip() for tag in tags), LATEST}),
        "required_roles": sorted(required_roles),
        "required_claims": sorted(required_claims),
        "minimum_cpus": minimum_cpus,
        "minimum_memory_mib": minimum_memory_mib,
        "minimum_disk_gib": minimum_disk_gib,
        "compress": compress,
        "override": override,
    }
    with transaction.atomic():
        actor.take()
        if found := _here(image):
            if found.revoked_at:
                raise Conflict(
                    "This image was revoked. Push another version.", code="image_revoked"
                )
            if not override:
                raise Conflict(
                    f"{found.name} is in the catalog. Push another version, or override."
                )
        key = f"{PUSH}:{source.pk}:{image.path}/{image.pack_file}"[:120]
        if open_job := Job.objects.open().filter(unique_key=key).first():
            return open_job
        data = {"image": image.name, "vm": row.name, "source": source.name}
        audit(actor, PUSH, f"host:{host.pk}", host.name, data=data)
        return enqueue(
            PUSH,
            f"host:{host.pk}",
            actor,
            lane=host.lane,
            payload={
                "source": str(source.pk),
                "vm": row.name,
                "local_path": row.home,
                "catalog_id": image.catalog_id,
                "version": image.version,
                "architecture": architecture,
                "wish": wish,
            },
            unique_key=key,
            message=f"Waiting to push {image.name}.",
        )


def _here(image: Image) -> Image | None:
    """Return the image of the catalog that `image` would replace."""
    return (
        Image.objects.present()
        .filter(
            source=image.source,
            catalog_id__iexact=image.catalog_id,
            version=image.version,
            architecture=image.architecture,
        )
        .first()
    )


def _vm_of(host: Host, vm: str, local_path: str) -> HostVM:
    rows = HostVM.objects.filter(host=host)
    if local_path:
        found = rows.filter(home=local_path.rstrip("/")).first()
    else:
        found = rows.filter(host_vm_id=vm).first() or rows.filter(name=vm).first() if vm else None
    if found is None:
        raise NotFound(f"{host.name} lists no such VM. Look at the host again.")
    if not found.home:
        raise Conflict(f"{host.name} does not tell where the files of {found.name} are.")
    return found


def _image(source: CatalogSource, catalog_id: str, version: str, architecture: str) -> Image:
    """Return the image to be, not saved, with where its files go."""
    catalog_id, version = manifests.plain(catalog_id), manifests.plain(version)
    if catalog_id == "_" or version == "_":
        raise Invalid.field("catalog_id", "Give an id and a version.")
    if not architecture:
        raise Conflict("The host's architecture is not known yet. Look at the host again.")
    base = manifests.base_name(catalog_id, version, architecture)
    return Image(
        source=source,
        catalog_id=catalog_id,
        version=version,
        architecture=architecture,
        path=catalog_id.lower(),
        pack_file=f"{base}.pdpack",
        metadata_file=f"{base}.meta",
    )


class PushHandler(StorageHandler, CacheHandler):
    """`image.push`: send → watch → measure → take in. The job's id is that of the host's job.

    An interrupted push is asked again: a host goes on with what is in storage, where it can.
    """

    first = "send"
    calls = frozenset({"send", "watch", "measure", "list"})
    cancellable = False

    def step_send(self, claim: Claim) -> Outcome:
        host = self.host_of(claim.job)
        source = self._source(claim.job)
        assert host is not None
        if source is None:
            return Fail("The storage was removed or switched off meanwhile.")
        if "sent_at" in claim.job.payload:  # a worker was lost: find out, send nothing twice
            return Again(step="watch")
        wish, image = claim.job.payload["wish"], self._image_of(claim.job, source)
        spec = PushSpec(
            local_path=claim.job.payload["local_path"],
            catalog_id=image.catalog_id,
            version=image.version,
            architecture=image.architecture,
            connection=handing.upload_connection(image, uploading.address_of(claim.job, image)),
            description=wish["description"],
            compress=wish["compress"],
            override=wish["override"],
            tags=tuple(wish["tags"]),
            required_roles=tuple(wish["required_roles"]),
            required_claims=tuple(wish["required_claims"]),
            minimum_cpus=wish["minimum_cpus"],
            minimum_memory_mib=wish["minimum_memory_mib"],
            minimum_disk_gib=wish["minimum_disk_gib"],
        )
        claim.remember(sent_at=timezone.now().timestamp(), host_job=str(claim.job.pk))
        with driver_of(host) as driver, claim.sending(f"{host.name} is packing it.", 5):
            try:
                claim.remember(host_job=driver.push(spec, str(claim.job.pk)))
            except HostError as error:
                if not error.outcome_unknown:
                    return Fail(error.message)
                claim.log(error.message)
        return Again(step="watch", seconds=0.1)

    def _source(self, job: Job) -> CatalogSource | None:
        rows = CatalogSource.objects.present().filter(active=True, kind=CatalogSource.Kind.STORAGE)
        return rows.filter(pk=job.payload["source"]).first()

    def _image_of(self, job: Job, source: CatalogSource) -> Image:
        return _image(
            source, job.payload["catalog_id"], job.payload["version"], job.payload["architecture"]
        )

    def step_watch(self, claim: Claim) -> Outcome:
        host = self.host_of(claim.job)
        assert host is not None
        with driver_of(host) as driver:
            try:
                made = driver.read_job(claim.job.payload["host_job"])
            except HostError as error:
                if error.kind != ErrorKind.NOT_FOUND:
                    raise
                sent, now = claim.job.payload["sent_at"], timezone.now().timestamp()
                limit = settings.CREATE_CALL_SECONDS + settings.CREATE_DOUBT_SECONDS
                if now < sent + limit:
                    return Again(seconds=max(settings.VM_POLL_SECONDS, 0.2))
                # The host may have forgotten a job that ended: what is stored tells.
                return Again(step="measure", progress=60)
        if not made.is_final:
            return Again(
                seconds=settings.VM_POLL_SECONDS,
                progress=5 + made.progress * 55 // 100,
                message=made.message or f"{host.name} is pushing it.",
            )
        if not made.succeeded:
            return Fail(made.error or f"The host's job ended {made.state}.")
        return Again(step="measure", progress=60, message="Reading what was pushed.")

    def step_measure(self, claim: Claim) -> Outcome:
        """Read the whole pack: does it have the checksum that the host wrote beside it?"""
        source = self._source(claim.job)
        if source is None:
            return Fail("The storage was removed or switched off meanwhile.")
        image = self._image_of(claim.job, source)
        try:
            with storage_of(source) as storage:
                manifest = manifests.read(
                    read_small(storage, image.metadata_key), key=image.metadata_key
                )
                size = storage.stat(image.pack_key).size
                sha256, md5, done = hashlib.sha256(), hashlib.md5(usedforsecurity=False), 0
                told = time.monotonic()
                for piece in storage.read(image.pack_key):
                    sha256.update(piece)
                    md5.update(piece)
                    done += len(piece)
                    if time.monotonic() - told > NOTE_SECONDS:
                        told = time.monotonic()
                        claim.note(f"Read {done} of {size} bytes.", 60 + 35 * done // max(1, size))
        except BadManifest as error:
            return Fail(f"The host wrote no manifest: {error}")
        except StorageError as error:
            if error.kind is Trouble.MISSING:
                return Fail(f"The push did not arrive: {error.message} Push it again.")
            raise
        if manifest.md5 and manifest.md5 != md5.hexdigest():
            return Fail("The pack's checksum is not what the host wrote beside it. Push it again.")
        measured = {"sha256": sha256.hexdigest(), "md5": md5.hexdigest(), "pack_bytes": done}
        return Again(step="list", progress=96, payload={"measured": measured})

    def step_list(self, claim: Claim) -> Outcome:
        """Take the image into the catalog, with where it is from."""
        host, source = self.host_of(claim.job), self._source(claim.job)
        assert host is not None
        if source is None:
            return Fail("The storage was removed or switched off meanwhile.")
        image, wish = self._image_of(claim.job, source), claim.job.payload["wish"]
        with storage_of(source) as storage:
            read = read_small(storage, image.metadata_key)
        manifest = manifests.read(read, key=image.metadata_key)
        actor = Actor(claim.job.actor, claim.job.token, request_id=claim.job.request_id)
        provenance = {
            "host": host.name,
            "vm": claim.job.payload["vm"],
            "pushed_by": actor.name,
            "pushed_at": timezone.now().isoformat(),
            "job": str(claim.job.pk),
        }
        labels = {name: wish[name] for name in ("tags", "required_roles", "required_claims")}
        fields = {name: wish[name] for name in images.CHANGEABLE}
        try:
            with transaction.atomic():
                go_first()  # before the image is read: this may revoke it, or close it to some
                before = _here(image)
                _done, here = importing.take_in(
                    actor,
                    source,
                    manifest,
                    provenance=provenance,
                    verified_at=timezone.now(),
                    verify_problem="",
                    **claim.job.payload["measured"],
                )
                images.change(actor, here, **labels, **fields)
                if before and before.md5 != here.md5:  # what hosts have is another image now
                    copies.delete(actor, [here])
        except Refusal as refusal:
            return Fail(f"It was pushed, and not taken into the catalog: {refusal.message}")
        return Done({"image": str(here.pk)}, f"{here.name} is in the catalog.")


HANDLERS = {PUSH: PushHandler()}
