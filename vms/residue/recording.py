"""Writing receipts and residues, and asking for a look. All in the caller's transaction."""

from __future__ import annotations

from typing import TYPE_CHECKING

from django.db.models.functions import Now

from accounts.actors import SYSTEM
from accounts.audit import audit
from accounts.permissions import scoped
from events.publishing import publish
from jobs.queueing import enqueue
from orchestrator.db.clock import database_now
from vms.models import Receipt, Residue
from vms.residue.checking import LISTED_KINDS

if TYPE_CHECKING:
    from datetime import datetime
    from uuid import UUID

    from accounts.actors import Actor
    from hosts.lifecycle import Listing
    from hosts.models import Host
    from jobs.models import Job
    from vms.models import Placement
    from vms.residue.checking import Findings


def on_closed(placement: Placement) -> None:
    """Have looked what a placement that ended left, if a host was ever asked for its VM."""
    if placement.create_sent_at is not None or placement.plain_name:  # made by us, or adopted
        request_check(placement, since=placement.delete_acknowledged_at)


def request_check(
    placement: Placement, actor: Actor = SYSTEM, *, since: datetime | None = None
) -> Job:
    """Enqueue a look at what is left, by a list begun at `since` (now) or later."""
    return enqueue(
        "placement.check",
        f"placement:{placement.pk}",
        actor,
        payload={"since": (since or database_now()).isoformat()},
        lane=placement.host.lane,
        unique_key=f"placement.check:{placement.pk}",
    )


def record(receipt_id: UUID, findings: Findings) -> None:
    """Make the receipt and its residues say what was found.

    A residue of a kind that was not looked at stays as it is. Publishes, and audits what is new.
    """
    receipt = Receipt.objects.select_for_update().get(pk=receipt_id)
    seen, news = [], []
    for one in findings.left:
        row, created = Residue.objects.get_or_create(
            receipt=receipt,
            kind=one.kind,
            reference=one.reference,
            defaults={"detail": one.detail, "ours": one.ours, "seen_at": Now()},
        )
        if created or row.fixed_at:
            news.append(one.detail)
        Residue.objects.filter(pk=row.pk).update(
            detail=one.detail, ours=one.ours, seen_at=Now(), fixed_at=None
        )
        seen.append(row.pk)
    there = receipt.residues.filter(fixed_at=None)
    there.filter(kind__in=findings.complete).exclude(pk__in=seen).update(fixed_at=Now())
    left = there.count()
    clean = Receipt.Verdict.CLEAN if findings.is_clean else Receipt.Verdict.INCOMPLETE
    receipt.verdict = Receipt.Verdict.RESIDUE if left else clean
    Receipt.objects.filter(pk=receipt.pk).update(
        checked_at=Now(),
        verdict=receipt.verdict,
        checks=findings.as_json(),
        free_disk_gib_after=findings.free_disk_gib,
        disk_is_comparable=findings.disk_is_comparable,
    )
    _tell(receipt, news, left)


def _tell(receipt: Receipt, news: list[str], left: int) -> None:
    placement = receipt.placement
    vm = placement.vm
    data = {"name": vm.name, "host": placement.host.name, "verdict": receipt.verdict, "left": left}
    if news:
        audit(SYSTEM, "vm.residue", vm.subject, vm.name, data={"left": news})
    publish(
        "vm.residue" if news else "vm.receipt",
        vm.subject,
        data,
        permission="vms.view_all",
        scope=scoped(vm.share_id),
        owner_id=vm.requested_by_id,
    )


def on_listing(host: Host, listing: Listing) -> None:
    """Take what the host does not list any more for fixed, whoever did it, and look at the rest."""
    if not listing.counts:
        return
    gone = list(
        Residue.objects.open()
        .on_host(host.pk)
        .filter(kind__in=LISTED_KINDS, seen_at__lt=listing.began_at)
        .exclude(reference__in=[vm.id for vm in listing.inventory.vms])
        .select_related("receipt__placement")
    )
    Residue.objects.filter(pk__in=[one.pk for one in gone]).update(fixed_at=Now())
    for placement in {one.receipt.placement for one in gone}:
        placement.host = host
        request_check(placement, since=listing.began_at)
