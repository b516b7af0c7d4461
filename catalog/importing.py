"""The job that brings what a source's metadata describes into the catalog."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from django.db import transaction
from django.db.models.functions import Now

from accounts.actors import Actor
from catalog import images, metadata, remotes
from catalog.manifests import BadManifest, Manifest, read
from catalog.models import CatalogSource, Image
from catalog.storage import StorageError, Trouble, read_small
from catalog.stores import StorageHandler, storage_of
from jobs.models import Job
from jobs.outcomes import Done, Fail, Outcome
from orchestrator.db.locks import go_first
from orchestrator.refusals import Refusal

if TYPE_CHECKING:
    from jobs.claims import Claim

SHOWN = 200  # of what was skipped


class ImportHandler(StorageHandler):
    """`source.import`: reads every manifest that is asked for; what is there already is updated."""

    first = "read"
    calls = frozenset({"read"})
    cancellable = True
    tries = 3

    def step_read(self, claim: Claim) -> Outcome:
        rows = CatalogSource.objects.present().filter(active=True)
        source = rows.filter(pk=claim.job.subject_id).first()
        if source is None:
            return Fail("The source was removed or switched off meanwhile.")
        claim.note(f"Reading {source.name}.", 5)
        found, skipped = _manifests(source)
        wanted = claim.job.payload
        actor = Actor(claim.job.actor, claim.job.token, request_id=claim.job.request_id)
        ids: dict[str, list[str]] = {"added": [], "updated": []}
        for number, manifest in enumerate(found):
            if not _is_meant(manifest, wanted):
                continue
            claim.note(f"{manifest.name}.", 10 + 85 * number // len(found))
            try:
                done, image = take_in(actor, source, manifest)
            except Refusal as refusal:
                skipped.append((manifest.name, refusal.message))
                continue
            ids[done].append(str(image.pk))
        CatalogSource.objects.filter(pk=source.pk).update(imported_at=Now())
        result: dict[str, Any] = {
            **ids,
            "skipped": [{"what": what, "why": why} for what, why in skipped[:SHOWN]],
        }
        if wanted["catalog_id"] and not (ids["added"] or ids["updated"]):
            why = skipped[0][1] if skipped else "Its metadata is not there."
            name = f"{wanted['catalog_id']} {wanted['version']}".strip()
            return Fail(f"{source.name} has no {name} to import. {why}", result)
        text = f"{len(ids['added'])} added, {len(ids['updated'])} updated, {len(skipped)} skipped."
        return Done(result, text)


def _manifests(source: CatalogSource) -> tuple[list[Manifest], list[tuple[str, str]]]:
    if not source.is_storage:
        return remotes.manifests_of(source)
    found, skipped = [], []
    with storage_of(source) as storage:
        for stored in list(storage.list()):
            if not stored.key.endswith(".meta"):
                continue
            try:
                manifest = read(read_small(storage, stored.key), key=stored.key)
                if not manifest.pack_file:
                    raise BadManifest("It names no pack.")
                storage.stat(f"{manifest.path}/{manifest.pack_file}")
            except BadManifest as error:
                skipped.append((stored.key, str(error)))
            except StorageError as error:
                if error.kind is not Trouble.MISSING:
                    raise
                skipped.append((stored.key, f"Its pack is missing: {error.message}"))
            else:
                found.append(manifest)
    return found, skipped


def _is_meant(manifest: Manifest, wanted: dict[str, str]) -> bool:
    return (
        wanted["catalog_id"].upper() in ("", manifest.catalog_id.upper())
        and wanted["version"] in ("", manifest.version)
        and wanted["architecture"] in ("", manifest.architecture)
    )


def take_in(
    actor: Actor, source: CatalogSource, manifest: Manifest, **more: Any
) -> tuple[str, Image]:
    """Add or update the image of a manifest; return “added” or “updated”, and the image.

    A revocation or taint is never taken back by this: not by a manifest that lacks it, and not by
    deleting the image first. `more` are columns over the manifest's. Raises a `Refusal`.
    """
    same = Image.objects.filter(
        source=source,
        catalog_id__iexact=manifest.catalog_id,
        version=manifest.version,
        architecture=manifest.architecture,
    )
    fields = {**manifest.fields, **more}
    with transaction.atomic():
        go_first()  # it may revoke or taint the image
        actor.take()
        actor.require("images.manage")
        here = same.present().select_for_update().first()
        if here is None:
            before = same.order_by("-removed_at").first()
            return "added", images.add_image(
                actor,
                source=source,
                catalog_id=manifest.catalog_id,
                version=manifest.version,
                architecture=manifest.architecture,
                tags=manifest.tags,
                required_roles=manifest.required_roles,
                required_claims=manifest.required_claims,
                **fields,
                **_flags(manifest, before),
            )
        for name in ("description", "minimum_cpus", "minimum_memory_mib", "minimum_disk_gib"):
            fields.pop(name)  # those are ours to change
        Image.objects.filter(pk=here.pk).update(**fields)
        # What is still to be written there is newer than what was read.
        waits = Job.objects.open().about(f"image:{here.pk}").filter(kind=metadata.WRITE)
        if not waits.exists():
            if manifest.revoked and not here.revoked_at:
                images.revoke(actor, here, reason=manifest.revoked.reason)
            if manifest.tainted and not here.tainted_at:
                images.set_taint(actor, here, True, reason=manifest.tainted.reason)
    here.refresh_from_db()
    return "updated", here


def _flags(manifest: Manifest, before: Image | None) -> dict[str, Any]:
    """Return the columns of taint and revocation: the manifest's, or of what was deleted here."""
    flags: dict[str, Any] = {}
    if manifest.revoked:
        flags |= {
            "revoked_at": manifest.revoked.at,
            "revoked_by": manifest.revoked.by,
            "revoke_reason": manifest.revoked.reason,
        }
    elif before and before.revoked_at:
        flags |= {
            name: getattr(before, name) for name in ("revoked_at", "revoked_by", "revoke_reason")
        }
    if manifest.tainted:
        flags |= {
            "tainted_at": manifest.tainted.at,
            "tainted_by": manifest.tainted.by,
            "taint_reason": manifest.tainted.reason,
        }
    elif before and before.tainted_at:
        flags |= {
            name: getattr(before, name) for name in ("tainted_at", "tainted_by", "taint_reason")
        }
    return flags
