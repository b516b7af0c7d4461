"""Verbs on a host's cache: pull an image into it, delete one or all of it."""

from __future__ import annotations

import re
from datetime import datetime
from typing import TYPE_CHECKING, Protocol

from django.conf import settings
from django.db import transaction
from django.utils import timezone
from django.utils.dateparse import parse_datetime

from accounts.actors import SYSTEM
from accounts.audit import audit
from catalog.downloads import needed_gib
from catalog.models import HostImage, Image, cached
from hosts.models import Host, HostCapacity
from jobs.models import Job
from jobs.queueing import enqueue
from orchestrator.db.ids import CROCKFORD, MARK_LENGTH, mark
from orchestrator.db.locks import take
from orchestrator.refusals import Conflict, Forbidden, Invalid, NotFound

if TYPE_CHECKING:
    from collections.abc import Iterable

    from django.db.models import QuerySet

    from accounts.actors import Actor
    from hosts.drivers.base import RemoteVM

PULL, DELETE, SWEEP = "host.cache_pull", "host.cache_delete", "host.cache_sweep"
COLLECT = "host.cache_collect"
FASTEST_MIB = 100_000  # MiB a second that a limit may be
HELPER = re.compile(rf"precache-[a-z0-9-]+-[{CROCKFORD}]{{{MARK_LENGTH}}}")
REMOVED = "The host was removed from the pool."


class WhoRelies(Protocol):
    def __call__(self, host: Host, images: list[Image] | None) -> str:
        """Return the sentence that says what relies on the host's copies of `images` (None: of
        any image), or nothing."""


_relying: list[WhoRelies] = []


def register(who_relies: WhoRelies) -> None:
    """Add how one room above tells what relies on a host's cache."""
    _relying.append(who_relies)


def pull(
    actor: Actor,
    host: Host,
    image: Image,
    *,
    not_before: str | datetime | None = None,
    not_after: str | datetime | None = None,
    mib_per_second: int | None = None,
) -> Job:
    """Have the host download `image` into its cache, so that the first VM need not wait for it.

    Hosts offer no such call: they make a VM of the image, stopped and with a name of its own, which
    is deleted at once; the copy stays. It counts as foreign meanwhile. It begins within the window
    from `not_before` to `not_after`, or fails. With `mib_per_second` this product passes the pack
    on, no faster than that; the pulls of one batch share it. Raises `Forbidden`, `Invalid`,
    `NotFound`, or `Conflict` for another architecture, without room for the download, for a limit
    that cannot be kept, or while the host's cache is being deleted.
    """
    actor.require("hosts.manage")
    wish: dict[str, float] = _window(not_before, not_after)
    if mib_per_second is not None:
        wish["mib_per_second"] = limit_of(image, mib_per_second)
    with transaction.atomic():
        lock(host)
        actor.take()
        if not take(Image.objects.usable().filter(pk=image.pk)):
            raise Forbidden("This image was revoked or tainted.", code="image_revoked")
        if host.status.architecture != image.architecture:
            raise Conflict(
                f"{host.name} is {host.status.architecture or 'of unknown architecture'}, and this "
                f"image is for {image.architecture}."
            )
        if not HostImage.objects.filter(cached(image), host=host).exists():
            _require_room(host, image)
        key = f"{PULL}:{host.pk}:{image.pk}"
        if found := Job.objects.open().filter(unique_key=key).first():
            return found
        refuse_while(host, [DELETE, COLLECT])
        audit(actor, PULL, f"host:{host.pk}", host.name, data={"image": image.name})
        return enqueue(
            PULL,
            f"host:{host.pk}",
            actor,
            lane=host.lane,
            payload={"image": str(image.pk), "name": _helper_name(image), **wish},
            unique_key=key,
            message=f"Waiting to pull {image.name}.",
        )


def pull_named(
    actor: Actor,
    host: Host,
    *,
    catalog_id: str,
    version: str = "",
    not_before: str | datetime | None = None,
    not_after: str | datetime | None = None,
    mib_per_second: int | None = None,
) -> Job:
    """Have the host download the image of this name in its own architecture.

    Without a `version` the one that was added last; `latest` as `Image.objects.named` has it.
    Raises as `pull`, and `NotFound` when the catalog has none for this host.
    """
    actor.require("hosts.manage")
    rows = Image.objects.visible_to(actor).usable()
    image = rows.named(catalog_id, version, host.status.architecture).first()
    if image is None:
        raise NotFound(
            f"The catalog has no usable image {catalog_id}{':' if version else ''}{version} for "
            f"{host.status.architecture or 'an unknown architecture'}."
        )
    return pull(
        actor,
        host,
        image,
        not_before=not_before,
        not_after=not_after,
        mib_per_second=mib_per_second,
    )


def limit_of(image: Image, mib_per_second: int) -> int:
    """Return the limit; refuse what we could not keep, for the host reads it from elsewhere."""
    if not 1 <= mib_per_second <= FASTEST_MIB:
        raise Invalid.field("mib_per_second", f"Give a number from 1 to {FASTEST_MIB}.")
    told = ""
    if not image.source.is_storage or not image.pack_file:
        told = "its pack is not in a storage of this catalog, and the host reads it from elsewhere"
    elif image.source.hands_out_keys:
        told = f"{image.source.name} hands its keys out, and the host reads it from there"
    elif not settings.PUBLIC_URL:
        told = "hosts have no address to read it from us at (PUBLIC_URL)"
    if told:
        raise Conflict(f"No limit of bandwidth can be kept: {told}. Pull without one.")
    return mib_per_second


def _window(
    not_before: str | datetime | None, not_after: str | datetime | None
) -> dict[str, float]:
    """Return the window as times since 1970. Raises `Invalid` for one that has no time in it."""
    found: dict[str, float] = {}
    for name, value in (("not_before", not_before), ("not_after", not_after)):
        if not value:
            continue
        moment = _moment(value) if isinstance(value, str) else value
        if moment is None:
            raise Invalid.field(name, "Give a time such as 2026-01-31T22:00:00Z.")
        found[name] = (moment if moment.tzinfo else timezone.make_aware(moment)).timestamp()
    end = found.get("not_after")
    if end is not None and end <= max(timezone.now().timestamp(), found.get("not_before", 0)):
        raise Invalid.field("not_after", "The window has ended before it begins, or by now.")
    return found


def _moment(text: str) -> datetime | None:
    try:
        return parse_datetime(text)
    except ValueError:
        return None


def delete(
    actor: Actor, host: Host, *, catalog_id: str = "", version: str = "", everything: bool = False
) -> Job:
    """Delete an image from the host's cache: one version, all of them, or `everything` there is.

    Raises `Forbidden`, `NotFound` for what the host does not list, `Invalid`, or `Conflict` when a
    VM that is being made, or waits for a host, relies on it, or other work is on the cache.
    """
    actor.require("hosts.manage")
    if everything == bool(catalog_id) or (version and not catalog_id):
        raise Invalid.field("catalog_id", "Name an image, or say that everything is to be deleted.")
    with transaction.atomic():
        lock(host)
        actor.take()
        wanted = {"catalog_id": catalog_id.upper(), "version": version}
        if not everything and not listed(host, **wanted).exists():
            raise NotFound(f"{host.name} lists no such image in its cache. Look at the host again.")
        if told := who_relies_on(host, **wanted):
            raise Conflict(f"{told} Wait for it, or delete it first.", code="in_use")
        key = f"{DELETE}:{host.pk}:{wanted['catalog_id']}:{version}"
        if found := Job.objects.open().filter(unique_key=key).first():
            return found
        refuse_while(host, [PULL, DELETE, COLLECT])
        what = f"{catalog_id} {version}".strip() or "everything"
        audit(actor, DELETE, f"host:{host.pk}", host.name, data={"what": what})
        return enqueue(
            DELETE,
            f"host:{host.pk}",
            actor,
            lane=host.lane,
            payload=wanted,
            unique_key=key,
            message=f"Waiting to delete {what}.",
        )


def lock(host: Host) -> None:
    """Let one change of the host's cache be asked for at a time, and only while it is present."""
    present = Host.objects.select_for_update(no_key=True).present().filter(pk=host.pk)
    if not present.values_list("pk").first():
        raise NotFound(REMOVED)


def _require_room(host: Host, image: Image) -> None:
    has = HostCapacity.objects.get(pk=host.pk)
    if image.pack_size_mib is None:
        return
    needs = needed_gib(image.pack_size_mib, has.shared_volume)
    if has.disk_gib_free < needs:
        raise Conflict(
            f"Its download needs {needs} GiB of free disk, and {host.name} has {has.disk_gib_free}."
            " Make room there first.",
            code="no_room",
        )


def refuse_while(host: Host, kinds: list[str]) -> None:
    jobs = Job.objects.open().about(f"host:{host.pk}").filter(kind__in=kinds)
    if found := jobs.first():
        raise Conflict(f"{found.kind} is under way on this host. Wait for it to end.")


def listed(host: Host, catalog_id: str, version: str) -> QuerySet[HostImage]:
    """Return the copies that the host lists of an image; no version: of all; no id: every copy."""
    return copies_of_host(str(host.pk), catalog_id, version)


def copies_of_host(host_id: str, catalog_id: str, version: str) -> QuerySet[HostImage]:
    """Return what `listed` does, of a host by its id, which may be gone."""
    rows = HostImage.objects.filter(host__pk=host_id)
    if catalog_id:
        rows = rows.filter(catalog_id=catalog_id)
    return rows.filter(version=version) if version else rows


def who_relies_on(host: Host, catalog_id: str, version: str) -> str:
    """Return the sentence that says what relies on these copies, or nothing."""
    images = None
    if catalog_id:
        rows = Image.objects.filter(catalog_id__iexact=catalog_id)
        images = list(rows.filter(version=version) if version else rows)
    return next((told for entry in _relying if (told := entry(host, images))), "")


def _helper_name(image: Image) -> str:
    slug = re.sub(r"[^a-z0-9]+", "-", image.catalog_id.lower()).strip("-")[:30].strip("-")
    return f"precache-{slug or 'image'}-{mark()}"


def is_helper(host_vm_name: str) -> bool:
    """Return whether a VM of this name on a host was made to pull an image, and goes again."""
    return HELPER.fullmatch(host_vm_name) is not None


def sweep(host: Host, vms: Iterable[RemoteVM]) -> None:
    """Remove what a pull left on the host that ended before its VM came into being.

    Only a VM whose whole name, mark included, a pull of this host had stored before its call.
    """
    names = {vm.name for vm in vms if is_helper(vm.name)}
    if not names:
        return
    pulls = Job.objects.about(f"host:{host.pk}").filter(kind=PULL, payload__name__in=names)
    for job in pulls:
        if job.is_final:
            name = job.payload["name"]
            key = f"{SWEEP}:{name}"
            payload = {"name": name}
            enqueue(SWEEP, job.subject, SYSTEM, lane=host.lane, payload=payload, unique_key=key)
