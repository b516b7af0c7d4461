"""Handing access to a pack out to an enrolled host, for one download. To nobody else, ever.

A host is given a ticket in place of an API key of the catalog (the contract's `host=<key>@<url>`).
It shows it once at the catalog's `/download`, and gets the manifest with where the pack is: as
short-lived signed addresses where the storage can sign, with its keys only where it cannot, or
where the source says so. A download with a limit is passed on by this product (`catalog.relay`).
"""

from __future__ import annotations

import base64
import binascii
import secrets
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from django.conf import settings
from django.db import transaction
from django.db.models import F
from django.db.models.functions import Now
from django.utils.crypto import salted_hmac

from accounts.actors import SYSTEM
from accounts.audit import audit
from catalog import manifests, relay
from catalog.models import DownloadTicket, Image
from catalog.storage import PartStorage, StorageError, Trouble
from catalog.storage.connections import CLEAR, Provider, provider_of
from catalog.stores import storage_of
from hosts.drivers.base import ErrorKind, HostError
from orchestrator.db.clock import from_now
from orchestrator.db.models import moved
from orchestrator.refusals import Conflict, Forbidden, NotFound

if TYPE_CHECKING:
    from hosts.models import Host

PREFIX = "ticket-"


@dataclass(frozen=True)
class Limit:
    """How fast the downloads that share `pace` may be, all together."""

    mib_per_second: int
    pace: str


def connection_for(image: Image, host: Host, limit: Limit | None = None) -> str:
    """Return the connection string by which `host` downloads `image`. It is a secret.

    Another catalog's is its own; for a storage of ours it is this catalog's address and a ticket.
    Raises `HostError` when hosts have no address to reach this catalog at.
    """
    if not image.source.is_storage:
        return image.source.connection
    if not settings.PUBLIC_URL:
        raise HostError(
            ErrorKind.REJECTED,
            "Hosts cannot ask this catalog for the image: set PUBLIC_URL to the address at which "
            "they reach it.",
        )
    return f"host={issue(image, host, limit)}@{settings.PUBLIC_URL}"


def issue(image: Image, host: Host, limit: Limit | None = None) -> str:
    """Return a new ticket, in the form of an API key in base64: kept as a digest, shown once."""
    public, secret = secrets.token_hex(8), secrets.token_urlsafe(32)
    with transaction.atomic():
        DownloadTicket.objects.filter(expires_at__lt=from_now(-86_400)).delete()
        DownloadTicket.objects.create(
            digest=_digest(public, secret),
            image=image,
            host=host,
            expires_at=from_now(settings.CATALOG_TICKET_SECONDS),
            mib_per_second=limit.mib_per_second if limit else None,
            pace=limit.pace if limit else "",
        )
    return base64.b64encode(f"{PREFIX}{public}:{secret}".encode()).decode()


def is_ticket(key: str) -> bool:
    """Return whether an API key of the wire (base64) has the form of a ticket."""
    return _parts(key) is not None


def redeem(key: str, *, catalog_id: str, version: str, architecture: str) -> dict[str, Any]:
    """Use a ticket up; return the manifest with where its pack is (`provider`). It has secrets.

    Raises `Forbidden` for a ticket that is none, was used, has expired, is for another image, or
    whose host was removed; `Conflict` (`tainted`) and `Forbidden` (`image_revoked`) for the image.
    """
    refused = Forbidden("This ticket is not good (any more).", code="ticket")
    parts = _parts(key)
    if parts is None:
        raise refused
    tickets = DownloadTicket.objects.filter(
        digest=_digest(*parts), used_at=None, expires_at__gt=Now(), host__removed_at=None
    ).select_related("image__source", "host")
    ticket = tickets.first()
    if ticket is None:
        raise refused
    image = ticket.image
    named = (catalog_id.upper(), version, architecture)
    if named != (image.catalog_id.upper(), image.version, image.architecture):
        raise refused
    if image.removed_at:
        raise NotFound("The image was deleted from the catalog.")
    if image.revoked_at:
        raise Forbidden("Manifest is revoked", code="image_revoked")
    if image.tainted_at:
        raise Conflict("Manifest is tainted", code="tainted")
    values = manifests.values_of(image)
    try:
        values["provider"] = _provider(image, ticket)
    except StorageError as error:
        raise Conflict(error.message, code="storage") from None
    with transaction.atomic():
        used = DownloadTicket.objects.filter(pk=ticket.pk, used_at=None)
        if not moved(used, used_at=Now()):
            raise refused
        Image.objects.filter(pk=image.pk).update(
            downloads=F("downloads") + 1,
            last_downloaded_at=Now(),
            last_downloaded_by=ticket.host.name[:100],
        )
        data = {"host": ticket.host.name}
        audit(SYSTEM, "image.handed_out", f"image:{image.pk}", image.name, data=data)
    return values


def _provider(image: Image, ticket: DownloadTicket) -> dict[str, Any]:
    """Return where the pack is, as the contract's `provider`."""
    provider = provider_of(image.source.connection)
    if provider is None or not image.pack_key:
        raise StorageError(Trouble.SETTINGS, "Its pack is not in a storage of this catalog.")
    seconds = settings.CATALOG_ADDRESS_SECONDS
    if ticket.mib_per_second:
        meta = _shown(provider, signed=True, keys=False)
        return {"type": provider.type, "meta": {**meta, **relay.addresses_of(ticket)}}
    with storage_of(image.source) as storage:
        signed = storage.download_url(image.pack_key, seconds)
        meta = _shown(provider, signed=bool(signed), keys=image.source.hands_out_keys)
        if signed:
            meta["pack_url"] = signed
            meta["metadata_url"] = storage.download_url(image.metadata_key, seconds)
    return {"type": provider.type, "meta": meta}


def upload_connection(image: Image, in_parts: str = "") -> str:
    """Return the provider part of the connection string by which a host pushes `image`.

    As for a download: signed addresses (`pack_upload_url`, `metadata_upload_url`) and no keys where
    the storage can sign. `in_parts` is where the host uploads the pack in parts, which it prefers
    (`pack_parts_url`). Raises `StorageError`.
    """
    provider = provider_of(image.source.connection)
    if provider is None:
        raise StorageError(Trouble.SETTINGS, f"{image.source.name} is no storage.")
    seconds = settings.CATALOG_UPLOAD_SECONDS
    with storage_of(image.source) as storage:
        signed = storage.upload_url(image.pack_key, seconds)
        parts = _shown(provider, signed=bool(signed), keys=image.source.hands_out_keys)
        if signed:
            parts["pack_upload_url"] = signed
            if in_parts and isinstance(storage, PartStorage):
                parts["pack_parts_url"] = in_parts
            parts["metadata_upload_url"] = storage.upload_url(image.metadata_key, seconds)
    pairs = [f"{name}={value}" for name, value in parts.items()]
    return ";".join([f"provider={provider.type}", *pairs])


def _shown(provider: Provider, *, signed: bool, keys: bool) -> dict[str, str]:
    """Return the options that a host gets: all, or without secrets where it can do without."""
    if keys or not signed:
        return dict(provider.options)
    return {name: value for name, value in provider.options.items() if name in CLEAR}


def _digest(public: str, secret: str) -> str:
    return salted_hmac(f"catalog.tickets.{public}", secret, algorithm="sha256").hexdigest()


def _parts(key: str) -> tuple[str, str] | None:
    try:
        text = base64.b64decode(key, validate=True).decode()
    except (binascii.Error, ValueError):
        return None
    public, colon, secret = text.removeprefix(PREFIX).partition(":")
    return (public, secret) if colon and text.startswith(PREFIX) else None
