"""Catalog sources and images: added, tainted, revoked."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol, TypeVar

from django.core.exceptions import ValidationError
from django.db import transaction
from django.db.models.functions import Now

from accounts import revocation
from accounts.audit import audit, changed
from accounts.users import from_validation
from catalog import copies
from catalog.models import CatalogSource, Image
from events.publishing import publish
from jobs.queueing import record_done
from orchestrator.db.locks import go_first

if TYPE_CHECKING:
    from accounts.actors import Actor
    from accounts.revocation import Hit
    from jobs.models import Job

Row = TypeVar("Row", CatalogSource, Image)
VERBS = ("image.revoke", "image.taint", "image.untaint")


class Preview(Protocol):
    def __call__(self, image: Image, verb: str) -> list[Hit]: ...


class Apply(Protocol):
    def __call__(self, image: Image, verb: str, running_vms: str, actor: Actor) -> list[Hit]: ...


_entries: list[tuple[Preview, Apply]] = []


def register(preview: Preview, apply: Apply) -> None:
    """Add how one room above is reached by taint, revoke and delete of an image."""
    _entries.append((preview, apply))


def preview(image: Image, verb: str) -> list[Hit]:
    """Return everything that `verb` (taint, revoke) would hit now."""
    return [hit for entry, _ in _entries for hit in entry(image, verb)]


def add_source(actor: Actor, *, name: str, connection: str) -> CatalogSource:
    """Add a catalog source. `connection` is the contract's connection string, kept encrypted."""
    actor.require("images.manage")
    source = CatalogSource(name=name.strip(), connection=connection.strip(), added_by=actor.user)
    return _save(actor, source, "source")


def add_image(
    actor: Actor,
    *,
    source: CatalogSource,
    catalog_id: str,
    version: str,
    architecture: str,
    type: str,
    pack_size_mib: int | None = None,
) -> Image:
    """Add an image of a source. `pack_size_mib` lets placement keep room for its download."""
    actor.require("images.manage")
    image = Image(
        source=source,
        catalog_id=catalog_id.strip(),
        version=version.strip(),
        architecture=architecture,
        type=type,
        pack_size_mib=pack_size_mib,
    )
    return _save(actor, image, "image")


def _save(actor: Actor, row: Row, noun: str) -> Row:
    try:
        row.full_clean()
    except ValidationError as error:
        raise from_validation(error) from None
    with transaction.atomic():
        actor.take()
        actor.require("images.manage")
        row.save(force_insert=True)
        after = {"name": row.name}
        if isinstance(row, Image):
            after |= {"catalog_id": row.catalog_id, "version": row.version}
        audit(actor, f"{noun}.added", f"{noun}:{row.pk}", row.name, data={"after": after})
        publish(f"{noun}.added", f"{noun}:{row.pk}", permission="images.view")
    return row


def revoke(
    actor: Actor,
    image: Image,
    *,
    reason: str = "",
    running_vms: str = "keep",
    cached_copies: str = "keep",
) -> Job:
    """Revoke `image`: no VM is made from it any more; `running_vms` as for a grant.

    With `cached_copies` “delete” every host is asked to delete its copy; the result names the
    batch. Needs the right to manage hosts then. Revoking again with it deletes what was kept.
    """
    running_vms = revocation.check_choice(running_vms)
    actor.require("images.manage")
    deletes = copies.check_choice(actor, cached_copies)
    with transaction.atomic():
        go_first()
        if deletes:  # the batch takes the account, which comes before the image
            actor.take()
        locked = Image.objects.select_for_update().get(pk=image.pk)
        hits: list[Hit] = []
        if not locked.revoked_at:
            Image.objects.filter(pk=image.pk).update(revoked_at=Now(), revoke_reason=reason[:300])
            for _, apply in _entries:
                hits += apply(image, "revoke", running_vms, actor)
        batches = [str(job.pk) for job in copies.delete(actor, [image])] if deletes else []
        audit(
            actor,
            "image.revoked",
            f"image:{image.pk}",
            image.name,
            data=changed({"revoked": bool(locked.revoked_at)}, {"revoked": True})
            | {
                "reason": reason,
                "running_vms": running_vms,
                "hit": [str(hit) for hit in hits],
                "cached_copies": cached_copies,
            },
        )
        publish("image.revoked", f"image:{image.pk}", permission="images.view")
        return record_done(
            "image.revoke",
            f"image:{image.pk}",
            actor,
            result={"hit": [str(hit) for hit in hits], "batches": batches},
        )


def set_taint(actor: Actor, image: Image, tainted: bool, *, reason: str = "") -> Job:
    """Taint `image` (no new VM from it until it is untainted), or take the taint away."""
    actor.require("images.manage")
    verb = "taint" if tainted else "untaint"
    with transaction.atomic():
        go_first()
        locked = Image.objects.select_for_update().get(pk=image.pk)
        Image.objects.filter(pk=image.pk).update(
            tainted_at=Now() if tainted else None, taint_reason=reason[:300] if tainted else ""
        )
        if tainted:
            for _, apply in _entries:
                apply(image, "taint", "keep", actor)
        data = changed(
            {"tainted": bool(locked.tainted_at), "reason": locked.taint_reason},
            {"tainted": tainted, "reason": reason[:300] if tainted else ""},
        )
        audit(actor, f"image.{verb}ed", f"image:{image.pk}", image.name, data=data)
        publish(f"image.{verb}ed", f"image:{image.pk}", permission="images.view")
        return record_done(f"image.{verb}", f"image:{image.pk}", actor)
