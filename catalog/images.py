"""Images: added, changed, tainted, revoked, brought back, deleted."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Protocol

from django.core.exceptions import ValidationError
from django.db import transaction
from django.db.models.functions import Now

from accounts import revocation
from accounts.audit import audit, changed
from accounts.users import from_validation
from catalog import copies, metadata
from catalog.manifests import LONGEST
from catalog.models import LATEST, Image, ImageLabel
from events.publishing import publish
from jobs.queueing import record_done
from orchestrator.db.locks import go_first
from orchestrator.refusals import Conflict, Forbidden, Invalid

if TYPE_CHECKING:
    from collections.abc import Sequence

    from accounts.actors import Actor
    from accounts.revocation import Hit
    from catalog.models import CatalogSource
    from jobs.models import Job

VERBS = ("image.revoke", "image.unrevoke", "image.taint", "image.untaint", "image.remove")
CHANGEABLE = ("description", "minimum_cpus", "minimum_memory_mib", "minimum_disk_gib")


class Preview(Protocol):
    def __call__(self, image: Image, verb: str) -> list[Hit]: ...


class Apply(Protocol):
    def __call__(self, image: Image, verb: str, running_vms: str, actor: Actor) -> list[Hit]: ...


_entries: list[tuple[Preview, Apply]] = []


def register(preview: Preview, apply: Apply) -> None:
    """Add how one room above is reached by taint, revoke, remove and close of an image."""
    _entries.append((preview, apply))


def preview(image: Image, verb: str) -> list[Hit]:
    """Return everything that `verb` (taint, revoke) would hit now."""
    return [hit for entry, _ in _entries for hit in entry(image, verb)]


def add_image(
    actor: Actor,
    *,
    source: CatalogSource,
    catalog_id: str,
    version: str,
    architecture: str,
    type: str,
    pack_size_mib: int | None = None,
    tags: Sequence[str] = (),
    required_roles: Sequence[str] = (),
    required_claims: Sequence[str] = (),
    **fields: Any,
) -> Image:
    """Add an image of a source. `pack_size_mib` lets placement keep room for its download.

    `fields` are further columns of its manifest, as an import or a push knows them. Raises
    `Invalid`, also for an image that is in the catalog already.
    """
    actor.require("images.manage")
    image = Image(
        source=source,
        catalog_id=catalog_id.strip(),
        version=version.strip(),
        architecture=architecture,
        type=type,
        pack_size_mib=pack_size_mib,
        **fields,
    )
    try:
        image.full_clean()
    except ValidationError as error:
        raise from_validation(error) from None
    with transaction.atomic():
        actor.take()
        actor.require("images.manage")
        image.save(force_insert=True)
        _label(image, tags=tags, required_roles=required_roles, required_claims=required_claims)
        after = {"name": image.name, "catalog_id": image.catalog_id, "version": image.version}
        _tell(actor, image, "added", {"after": after})
    return image


def change(
    actor: Actor,
    image: Image,
    *,
    tags: Sequence[str] | None = None,
    required_roles: Sequence[str] | None = None,
    required_claims: Sequence[str] | None = None,
    **fields: Any,
) -> Image:
    """Describe and tag an image, and say who it is open to; what is None stays as it is.

    The tag `latest` is taken from the other versions. It is written to the stored metadata by a
    job. What VMs rest on an image that is not open to their owner any more is reached as a
    revocation reaches it; those that exist are kept. Raises `Invalid`, `Forbidden`, or `Conflict`
    for an image that was deleted.
    """
    actor.require("images.manage")
    if unknown := sorted(fields.keys() - set(CHANGEABLE)):
        raise Invalid.field(unknown[0], "This cannot be changed.")
    closes = required_roles is not None or required_claims is not None
    with transaction.atomic():
        if closes:
            go_first()
        actor.take()
        (image,) = _locked(image, False)
        before = {name: getattr(image, name) for name in fields} | _labels_of(image)
        for name, value in fields.items():
            setattr(image, name, value)
        try:
            image.full_clean(exclude=["source"])
        except ValidationError as error:
            raise from_validation(error) from None
        image.save(update_fields=[*fields])
        _label(image, tags=tags, required_roles=required_roles, required_claims=required_claims)
        data = changed(before, {**fields, **_labels_of(image)})
        if closes:
            hits = [hit for _, apply in _entries for hit in apply(image, "close", "keep", actor)]
            data["hit"] = [str(hit) for hit in hits]
        _tell(actor, image, "changed", data)
        metadata.request(actor, image)
    return image


KINDS = {
    "tags": ImageLabel.Kind.TAG,
    "required_roles": ImageLabel.Kind.ROLE,
    "required_claims": ImageLabel.Kind.CLAIM,
}


def _labels_of(image: Image) -> dict[str, list[str]]:
    """Return its tags, required roles and required claims, as they are stored now."""
    rows = list(image.labels.order_by("name").values_list("kind", "name"))
    return {name: [label for of, label in rows if of == kind] for name, kind in KINDS.items()}


def _label(image: Image, **given: Sequence[str] | None) -> None:
    """Set those of tags, roles and claims that are given."""
    for name, values in given.items():
        if values is None:
            continue
        wanted = sorted({value.strip() for value in values if value.strip()})
        if len(wanted) > 100 or any(len(one) > LONGEST["label"] for one in wanted):
            raise Invalid.field(name, "Give at most 100, each of at most 100 characters.")
        kind = KINDS[name]
        image.labels.filter(kind=kind).exclude(name__in=wanted).delete()
        ImageLabel.objects.bulk_create(
            [ImageLabel(image=image, kind=kind, name=one) for one in wanted],
            ignore_conflicts=True,
        )
        if kind == ImageLabel.Kind.TAG and LATEST in wanted:
            ImageLabel.objects.filter(
                kind=kind,
                name=LATEST,
                image__source=image.source_id,
                image__catalog_id__iexact=image.catalog_id,
                image__architecture=image.architecture,
            ).exclude(image=image).delete()


def _locked(image: Image, all_architectures: bool) -> list[Image]:
    """Lock and return the image, or all architectures of its version. Raises `Conflict`."""
    rows = Image.objects.present().filter(pk=image.pk)
    if all_architectures:
        rows = Image.objects.present().filter(
            source=image.source_id, catalog_id__iexact=image.catalog_id, version=image.version
        )
    found = list(rows.select_for_update().order_by("pk"))
    if not found:
        raise Conflict("This image was deleted from the catalog.")
    return found


def revoke(
    actor: Actor,
    image: Image,
    *,
    reason: str = "",
    running_vms: str = "keep",
    cached_copies: str = "keep",
    all_architectures: bool = False,
) -> Job:
    """Revoke `image`: no VM is made from it any more; `running_vms` as for a grant.

    With `cached_copies` “delete” every host is asked to delete its copy; the result names the
    batch. Needs the right to manage hosts then. Revoking again with it deletes what was kept. The
    stored metadata says it, too, so that no import brings the image back.
    """
    running_vms = revocation.check_choice(running_vms)
    actor.require("images.manage")
    deletes = copies.check_choice(actor, cached_copies)
    with transaction.atomic():
        go_first()
        if deletes:  # the batch takes the account, which comes before the image
            actor.take()
        found = _locked(image, all_architectures)
        hits: list[Hit] = []
        for one in found:
            if not one.revoked_at:
                Image.objects.filter(pk=one.pk).update(
                    revoked_at=Now(), revoke_reason=reason[:300], revoked_by=actor.name
                )
                for _, apply in _entries:
                    hits += apply(one, "revoke", running_vms, actor)
        batches = [str(job.pk) for job in copies.delete(actor, found)] if deletes else []
        for one in found:
            data = changed({"revoked": bool(one.revoked_at)}, {"revoked": True}) | {
                "reason": reason,
                "running_vms": running_vms,
                "hit": [str(hit) for hit in hits],
                "cached_copies": cached_copies,
            }
            _tell(actor, one, "revoked", data)
            metadata.request(actor, one)
        return record_done(
            "image.revoke",
            f"image:{image.pk}",
            actor,
            result={
                "hit": [str(hit) for hit in hits],
                "batches": batches,
                "images": [str(one.pk) for one in found],
            },
        )


def unrevoke(actor: Actor, image: Image, *, reason: str, all_architectures: bool = False) -> Job:
    """Let VMs be made from a revoked image again. For administrators, who must say why.

    Templates made of it can be used again; what the revocation ended stays ended. Raises
    `Forbidden`, `Invalid` without a reason, or `Conflict` when it is not revoked.
    """
    actor.require("images.manage")
    if not actor.can("accounts.manage"):
        raise Forbidden("Only an administrator brings a revoked image back. Ask one.")
    if not reason.strip():
        raise Invalid.field("reason", "Say why it may be used again.")
    with transaction.atomic():
        actor.take()
        found = [one for one in _locked(image, all_architectures) if one.revoked_at]
        if not found:
            raise Conflict("This image is not revoked.")
        for one in found:
            Image.objects.filter(pk=one.pk).update(revoked_at=None, revoke_reason="", revoked_by="")
            before = {"revoked": True, "revoke_reason": one.revoke_reason}
            data = changed(before, {"revoked": False, "revoke_reason": ""})
            _tell(actor, one, "unrevoked", data | {"reason": reason})
            metadata.request(actor, one)
        return record_done("image.unrevoke", f"image:{image.pk}", actor)


def set_taint(
    actor: Actor,
    image: Image,
    tainted: bool,
    *,
    reason: str = "",
    all_architectures: bool = False,
) -> Job:
    """Taint `image` (no new VM from it until it is untainted), or take the taint away."""
    actor.require("images.manage")
    verb = "taint" if tainted else "untaint"
    with transaction.atomic():
        go_first()
        for one in _locked(image, all_architectures):
            Image.objects.filter(pk=one.pk).update(
                tainted_at=Now() if tainted else None,
                taint_reason=reason[:300] if tainted else "",
                tainted_by=actor.name if tainted else "",
            )
            if tainted:
                for _, apply in _entries:
                    apply(one, "taint", "keep", actor)
            data = changed(
                {"tainted": bool(one.tainted_at), "reason": one.taint_reason},
                {"tainted": tainted, "reason": reason[:300] if tainted else ""},
            )
            _tell(actor, one, f"{verb}ed", data)
            metadata.request(actor, one)
        return record_done(f"image.{verb}", f"image:{image.pk}", actor)


def remove(
    actor: Actor, image: Image, *, objects: bool = False, cached_copies: str = "keep"
) -> Job:
    """Delete an image from the catalog; with `objects` its pack and metadata in storage, too.

    Its row stays for the history of VMs made from it, which are kept; what waits to be made from it
    alone is cancelled. The result names the job that
    deletes the objects and the batches that delete `cached_copies`. Raises `Conflict` while a
    template is made from it.
    """
    actor.require("images.manage")
    deletes = copies.check_choice(actor, cached_copies)
    with transaction.atomic():
        go_first()
        actor.take()
        (found,) = _locked(image, False)
        if names := list(_templates_of(found)):
            raise Conflict(
                f"Templates are made from it: {', '.join(names[:5])}. Take it out of them, or "
                "revoke them, first.",
                code="in_use",
            )
        if objects and not found.source.is_storage:
            raise Conflict(
                "Its pack is in another catalog, which alone may delete it there. Delete the "
                "image without its objects."
            )
        Image.objects.filter(pk=found.pk).update(removed_at=Now())
        hits = [hit for _, apply in _entries for hit in apply(found, "remove", "keep", actor)]
        result: dict[str, Any] = {"batches": [], "objects": None}
        if deletes:
            result["batches"] = [str(job.pk) for job in copies.delete(actor, [found])]
        if objects:
            result["objects"] = str(metadata.request_deletion(actor, found).pk)
        data = {"objects": objects, "cached_copies": cached_copies}
        _tell(actor, found, "removed", {**data, "hit": [str(hit) for hit in hits]})
        return record_done("image.remove", f"image:{found.pk}", actor, result=result)


def _templates_of(image: Image) -> list[str]:
    rows = image.templates.filter(revoked_at=None, of_image=None)
    return list(rows.order_by("name").values_list("name", flat=True))


def _tell(actor: Actor, image: Image, done: str, data: dict[str, Any] | None = None) -> None:
    subject = f"image:{image.pk}"
    audit(actor, f"image.{done}", subject, image.name, data=data or {})
    publish(f"image.{done}", subject, permission="images.view")
