"""Packs that this product passes on itself, because their download has a limit of bandwidth.

A host that used a ticket with a limit gets addresses below `/packs/`, signed by us. What is sent
there is read from the storage as it goes, at the pace that the ticket's downloads share.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from django.conf import settings
from django.core import signing

from catalog.models import DownloadTicket, Image
from catalog.storage import StorageError, Trouble
from catalog.storage.connections import provider_of
from catalog.stores import opened
from orchestrator.refusals import Conflict, Forbidden, NotFound

if TYPE_CHECKING:
    from uuid import UUID

    from catalog.storage import Storage

PATH = "/packs/"
MIB = 1024 * 1024
_SALT = "catalog.relay"


@dataclass(frozen=True)
class Relayed:
    """An open object of a storage, and how fast it may go out: `rate` in bytes a second."""

    storage: Storage
    key: str
    size: int
    rate: int
    pace: str
    ticket: UUID


def addresses_of(ticket: DownloadTicket) -> dict[str, str]:
    """Return where a host reads pack and metadata with a ticket that it used. They are secrets."""
    return {
        f"{what}_url": f"{settings.PUBLIC_URL}{PATH}"
        + signing.dumps([str(ticket.pk), what], salt=_SALT)
        for what in ("pack", "metadata")
    }


def open_pack(token: str) -> Relayed:
    """Open what an address of ours stands for; the caller closes its storage.

    It is good for `CATALOG_ADDRESS_SECONDS`: what began by then may end. Raises `Forbidden`,
    `NotFound`, or `Conflict`: as `check`, for an address that is none, and for the storage.
    """
    try:
        ticket_id, what = signing.loads(token, salt=_SALT, max_age=settings.CATALOG_ADDRESS_SECONDS)
    except signing.BadSignature:
        raise Forbidden("This address is not good (any more). Pull again.", code="ticket") from None
    ticket = check(ticket_id)
    image = ticket.image
    key = image.pack_key if what == "pack" else image.metadata_key
    storage = None
    try:
        provider = provider_of(image.source.connection)
        if provider is None or not key:
            raise StorageError(Trouble.MISSING, "It is not in a storage of this catalog.")
        storage = opened(provider)
        size = storage.stat(key).size
    except StorageError as error:
        if storage:
            storage.close()
        kind = NotFound if error.kind is Trouble.MISSING else Conflict
        raise kind(error.message, code="storage") from None
    rate = (ticket.mib_per_second or 1) * MIB
    return Relayed(storage, key, size, rate, ticket.pace, ticket.pk)


def check(ticket_id: UUID | str) -> DownloadTicket:
    """Return a ticket whose download may go on.

    Raises `Forbidden` for a host that was removed, and an image that was revoked or tainted;
    `NotFound` for one that was deleted.
    """
    tickets = DownloadTicket.objects.select_related("image__source")
    ticket = tickets.filter(
        pk=ticket_id, host__removed_at=None, mib_per_second__isnull=False
    ).first()
    if ticket is None or ticket.used_at is None:
        raise Forbidden("This address is not good (any more). Pull again.", code="ticket")
    if ticket.image.removed_at:
        raise NotFound("The image was deleted from the catalog.")
    if not Image.objects.usable().filter(pk=ticket.image_id).exists():
        raise Forbidden("The image was revoked or tainted.", code="image_revoked")
    return ticket
