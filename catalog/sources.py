"""Catalog sources: storages, and other catalogs; added, changed, removed, imported from."""

from __future__ import annotations

from typing import TYPE_CHECKING

from django.core.exceptions import ValidationError
from django.db import transaction
from django.db.models import Count, Q, Sum
from django.db.models.functions import Now

from accounts.audit import audit
from accounts.users import from_validation
from catalog.models import CatalogSource, Image
from catalog.storage import StorageError
from catalog.storage.connections import address_of, provider_of
from catalog.stores import opened
from events.publishing import publish
from jobs.queueing import enqueue
from orchestrator.refusals import Conflict, Invalid

if TYPE_CHECKING:
    from django.db.models import QuerySet

    from accounts.actors import Actor
    from jobs.models import Job

IMPORT = "source.import"


def counted(rows: QuerySet[CatalogSource]) -> QuerySet[CatalogSource]:
    """Return `rows` with `image_count`, and `stored_bytes` of the packs whose size is known."""
    here = Q(images__removed_at=None)
    return rows.annotate(
        image_count=Count("images", here), stored_bytes=Sum("images__pack_bytes", filter=here)
    )


def add_source(
    actor: Actor, *, name: str, connection: str, hands_out_keys: bool = False, active: bool = True
) -> CatalogSource:
    """Add a catalog source. `connection` is the contract's connection string, kept encrypted.

    `host=…` names another catalog, `provider=…` a storage. With `hands_out_keys` hosts get the keys
    of a storage, which hosts need that know nothing of signed addresses. Raises `Invalid`.
    """
    actor.require("images.manage")
    source = CatalogSource(
        name=name.strip(), hands_out_keys=hands_out_keys, active=active, added_by=actor.user
    )
    _connect(source, connection)
    _check(source)
    with transaction.atomic():
        actor.take()
        actor.require("images.manage")
        source.save(force_insert=True)
        _tell(actor, source, "added", {"kind": source.kind})
    return source


def change_source(
    actor: Actor,
    source: CatalogSource,
    *,
    name: str | None = None,
    connection: str | None = None,
    hands_out_keys: bool | None = None,
    active: bool | None = None,
) -> CatalogSource:
    """Change a source; what is None stays. Raises `Invalid`, or `Conflict` for another kind."""
    actor.require("images.manage")
    with transaction.atomic():
        actor.take()
        source = CatalogSource.objects.present().select_for_update().get(pk=source.pk)
        kind = source.kind
        if name is not None:
            source.name = name.strip()
        if connection:
            _connect(source, connection)
        if source.kind != kind:
            raise Conflict("A storage and another catalog are two things. Add it as a new source.")
        if hands_out_keys is not None:
            source.hands_out_keys = hands_out_keys
        if active is not None:
            source.active = active
        _check(source)
        source.save()
        given = {"name": name, "hands_out_keys": hands_out_keys, "active": active}
        data = {key: value for key, value in given.items() if value is not None}
        _tell(actor, source, "changed", {**data, "connection": bool(connection)})
    return source


def remove_source(actor: Actor, source: CatalogSource) -> None:
    """Remove a source and forget its keys. Raises `Conflict` while it has images."""
    actor.require("images.manage")
    with transaction.atomic():
        actor.take()
        source = CatalogSource.objects.present().select_for_update().get(pk=source.pk)
        if count := Image.objects.present().filter(source=source).count():
            raise Conflict(f"It has {count} images. Delete them from the catalog first.")
        CatalogSource.objects.filter(pk=source.pk).update(
            removed_at=Now(), connection="", active=False
        )
        _tell(actor, source, "removed", {})


def request_import(
    actor: Actor,
    source: CatalogSource,
    *,
    catalog_id: str = "",
    version: str = "",
    architecture: str = "",
) -> Job:
    """Bring what the source's metadata describes into the catalog: everything, or what is named.

    The job's result has the ids of images `added` and `updated`, and what was `skipped` and why.
    What is revoked or tainted there is so here. Raises `Forbidden`, or `Conflict` for a source that
    is switched off.
    """
    actor.require("images.manage")
    with transaction.atomic():
        actor.take()
        if not CatalogSource.objects.present().filter(pk=source.pk, active=True).exists():
            raise Conflict(f"{source.name} is switched off. Switch it on first.")
        payload = {"catalog_id": catalog_id, "version": version, "architecture": architecture}
        audit(actor, IMPORT, f"source:{source.pk}", source.name, data=payload)
        return enqueue(
            IMPORT,
            f"source:{source.pk}",
            actor,
            payload=payload,
            unique_key=f"{IMPORT}:{source.pk}:{catalog_id}:{version}:{architecture}"[:120],
            message=f"Waiting to read {source.name}.",
        )


def _connect(source: CatalogSource, connection: str) -> None:
    """Set the connection, and with it the kind; tries it as far as nothing need be sent."""
    source.connection = connection.strip()
    try:
        provider, address = provider_of(source.connection), address_of(source.connection)
        if provider:
            opened(provider).close()
    except (ValueError, StorageError) as error:
        raise Invalid.field("connection", str(error)) from None
    if not provider and not address:
        raise Invalid.field(
            "connection",
            "Give a catalog (host=user:password@https://…) or a storage (provider=…;…).",
        )
    source.kind = CatalogSource.Kind.STORAGE if provider else CatalogSource.Kind.REMOTE


def _check(source: CatalogSource) -> None:
    try:
        source.full_clean()
    except ValidationError as error:
        raise from_validation(error) from None


def _tell(actor: Actor, source: CatalogSource, done: str, data: dict[str, object]) -> None:
    subject = f"source:{source.pk}"
    audit(actor, f"source.{done}", subject, source.name, data=data)
    publish(f"source.{done}", subject, permission="images.view")
