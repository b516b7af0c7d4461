"""How much a host may cache, and collecting what is over it: the least used goes first."""

from __future__ import annotations

from typing import TYPE_CHECKING

from django.db import transaction
from django.db.models import Exists, F, OuterRef, Sum
from django.db.models.functions import Upper

from accounts.actors import SYSTEM
from accounts.audit import audit
from catalog import going
from catalog.cache_jobs import CacheHandler
from catalog.caching import COLLECT, lock, refuse_while
from catalog.models import HostCache, HostImage, Image
from events.publishing import publish
from hosts import inventory
from hosts.calls import driver_of
from hosts.drivers.base import ErrorKind, HostError
from jobs.outcomes import Again, Done, Fail, Outcome
from jobs.queueing import enqueue, record_done
from orchestrator.refusals import Conflict, Invalid

if TYPE_CHECKING:
    from accounts.actors import Actor
    from hosts.models import Host
    from jobs.claims import Claim
    from jobs.models import Job

QUOTA = "host.cache_quota"
MAXIMUM_MIB = 100 * 1024 * 1024


def set_quota(actor: Actor, host: Host, *, quota_mib: int | None) -> Job:
    """Say how many MiB the host may cache (None: as much as it likes). What is over is collected.

    The result names the job that collects. Raises `Forbidden`, `Invalid` or `NotFound`.
    """
    actor.require("hosts.manage")
    if quota_mib is not None and not 0 <= quota_mib <= MAXIMUM_MIB:
        raise Invalid.field("quota_mib", f"Give 0 to {MAXIMUM_MIB} MiB, or nothing.")
    with transaction.atomic():
        lock(host)
        actor.take()
        HostCache.objects.update_or_create(
            host=host, defaults={"quota_mib": quota_mib, "set_by": actor.user}
        )
        audit(actor, QUOTA, f"host:{host.pk}", host.name, data={"quota_mib": quota_mib})
        publish("host.changed", f"host:{host.pk}", permission="hosts.view")
        job = _consider(host, actor)
        result = {"collect": str(job.pk) if job else None}
        return record_done(QUOTA, f"host:{host.pk}", actor, result=result)


def collect(actor: Actor, host: Host) -> Job:
    """Delete from the host's cache until it keeps to its quota, but nothing that is relied on.

    Raises `Forbidden`, `NotFound`, or `Conflict` without a quota or while the cache is worked on.
    """
    actor.require("hosts.manage")
    with transaction.atomic():
        lock(host)
        actor.take()
        if quota_of(host) is None:
            raise Conflict(f"{host.name} has no quota for its cache. Set one first.")
        refuse_while(host, [COLLECT])
        audit(actor, COLLECT, f"host:{host.pk}", host.name)
        return _enqueue(host, actor)


def consider(host: Host) -> Job | None:
    """Collect when the host is over its quota; in the transaction that records its inventory."""
    return _consider(host, SYSTEM)


def _consider(host: Host, actor: Actor) -> Job | None:
    quota = quota_of(host)
    return None if quota is None or _total(host) <= quota else _enqueue(host, actor)


def _enqueue(host: Host, actor: Actor) -> Job:
    return enqueue(
        COLLECT,
        f"host:{host.pk}",
        actor,
        lane=host.lane,
        unique_key=f"{COLLECT}:{host.pk}",
        message="Waiting to collect what is over the quota.",
    )


def quota_of(host: Host) -> int | None:
    """Return the host's quota in MiB, or None."""
    return HostCache.objects.filter(pk=host.pk).values_list("quota_mib", flat=True).first()


def _total(host: Host) -> int:
    rows = HostImage.objects.filter(host=host, going_since=None)
    return rows.aggregate(total=Sum("size_mib"))["total"] or 0


def in_order(host: Host) -> list[HostImage]:
    """Return the copies on a host, the first to go first.

    That is what no VM may be made of any more, then what was not used for longest.
    """
    usable = Image.objects.usable().annotate(upper=Upper("catalog_id"))
    used = usable.filter(upper=OuterRef("catalog_id"), version=OuterRef("version"))
    return list(
        HostImage.objects.filter(host=host, going_since=None)
        .annotate(wanted=Exists(used))
        .order_by(
            "wanted", F("last_used_at").asc(nulls_first=True), F("cached_at").asc(nulls_first=True)
        )
    )


class CollectHandler(CacheHandler):
    """`host.cache_collect`: marks copies until the rest fits, and deletes them."""

    first = "pick"
    calls = frozenset({"send", "look"})

    def step_pick(self, claim: Claim) -> Outcome:
        host = self.host_of(claim.job)
        assert host is not None
        quota = quota_of(host)
        # A worker that was lost here had marked some.
        going.unmark(str(host.pk), going.named(claim.job.payload.get("picked", ())))
        if quota is None:
            return Done(message="The host has no quota any more.")
        total = _total(host)
        picked: list[tuple[str, str]] = []
        for copy in in_order(host):
            if total <= quota:
                break
            claim.remember(picked=[*picked, (copy.catalog_id, copy.version)])
            rows = going.named([(copy.catalog_id, copy.version)])
            if going.mark(host, rows) == rows.filter(host=host).count():
                picked.append((copy.catalog_id, copy.version))
                total -= copy.size_mib
            else:  # one architecture of it is relied on, and hosts delete them all
                going.unmark(str(host.pk), rows)
        if not picked:
            over = "" if total <= quota else f" {total - quota} MiB over it are relied on."
            return Done({"deleted": []}, f"Nothing to delete.{over}")
        return Again(step="send", payload={"picked": picked}, progress=10)

    def step_send(self, claim: Claim) -> Outcome:
        host = self.host_of(claim.job)
        assert host is not None
        picked = claim.job.payload["picked"]
        with driver_of(host) as driver:
            for number, (catalog_id, version) in enumerate(picked):
                told = f"Deleting {catalog_id} {version}."
                with claim.sending(told, 10 + 70 * number // len(picked)):
                    try:
                        driver.delete_cached(catalog_id, version)
                    except HostError as error:
                        if error.kind != ErrorKind.NOT_FOUND:
                            raise
        return Again(step="look", progress=80, message="Deleted; having a look.")

    def step_look(self, claim: Claim) -> Outcome:
        host = self.host_of(claim.job)
        assert host is not None
        inventory.refresh(host)
        picked = claim.job.payload["picked"]
        if left := going.named(picked).filter(host=host).count():
            return Fail(f"{host.name} says that it is deleted, and still lists {left}.")
        names = [" ".join(pair) for pair in picked]
        return Done({"deleted": names}, f"Deleted {', '.join(names)}."[:300])

    def failed(self, job: Job, error: str) -> None:
        going.unmark(job.subject_id, going.named(job.payload.get("picked", ())))


HANDLERS = {COLLECT: CollectHandler()}
