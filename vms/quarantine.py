"""Hosts that fail to make VMs are put aside, and may prove that they are well again."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING

from django.conf import settings
from django.db import transaction
from django.db.models import Q
from django.db.models.functions import Now

from accounts.actors import SYSTEM
from hosts import holds
from hosts.models import Host, HostHold
from orchestrator.db.clock import database_now
from orchestrator.db.models import moved
from vms.models import Placement, Quarantine

if TYPE_CHECKING:
    from collections.abc import Sequence
    from datetime import datetime
    from uuid import UUID

    from django.db.models import QuerySet

LONGEST_SECONDS = 24 * 3600


def note_failure(placement: Placement) -> None:
    """Put the host into quarantine when too many of its last attempts failed.

    A probation VM that failed keeps it there, for twice as long. In the caller's transaction.
    """
    if _probation_failed(placement):
        return
    host = placement.host
    if HostHold.objects.live().filter(host=host, kind=HostHold.Kind.QUARANTINE).exists():
        return
    sample = _last_attempts(host)
    failed = sum(one.failed for one in sample)
    if len(sample) < settings.QUARANTINE_SAMPLE or failed < settings.QUARANTINE_RATE * len(sample):
        return
    reason = f"{failed} of the last {len(sample)} VMs could not be made: {placement.outcome}"
    holds.hold(SYSTEM, host, HostHold.Kind.QUARANTINE, reason[: holds.REASON_LENGTH])
    held = HostHold.objects.get(host=host, kind=HostHold.Kind.QUARANTINE, ended_at=None)
    Quarantine.objects.create(hold=held, probation_at=_after(settings.QUARANTINE_SECONDS))


def note_success(placement: Placement) -> None:
    """End the quarantine of a host whose probation VM exists. In the caller's transaction."""
    found = Quarantine.objects.filter(probation=placement, hold__ended_at=None).first()
    if found:
        holds.end(SYSTEM, found.hold)


def take_probation(host_id: UUID, placement: Placement) -> bool:
    """Let `placement` be the one VM that tries the host; return False when another is."""
    found = _due().filter(hold__host=host_id).first()
    if found is None:
        return False
    return moved(
        Quarantine.objects.filter(pk=found.pk, probation=found.probation_id), probation=placement
    )


def on_probation() -> set[UUID]:
    """Return the hosts in quarantine that one VM may try now."""
    return set(_due().values_list("hold__host_id", flat=True))


def _due() -> QuerySet[Quarantine]:
    return Quarantine.objects.untried().filter(
        hold__in=HostHold.objects.live(), probation_at__lte=Now()
    )


def _probation_failed(placement: Placement) -> bool:
    found = Quarantine.objects.filter(probation=placement).select_related("hold").first()
    if found is None:
        return False
    with transaction.atomic():
        tries = found.tries + 1
        pause = min(LONGEST_SECONDS, settings.QUARANTINE_SECONDS * 2**tries)
        Quarantine.objects.filter(pk=found.pk).update(
            probation=None, tries=tries, probation_at=_after(pause)
        )
        reason = f"It failed on probation, too: {placement.outcome}"
        HostHold.objects.filter(pk=found.hold_id).update(reason=reason[: holds.REASON_LENGTH])
    return True


def _last_attempts(host: Host) -> Sequence[Placement]:
    """Return the last attempts that came to an end: they failed, or the VM exists.

    What was before the end of the last quarantine does not count: it was answered for.
    """
    ended = Placement.objects.filter(Q(failed=True) | ~Q(host_vm_id=""), host=host)
    ended = ended.exclude(create_sent_at=None)  # it was not asked for yet, or was adopted
    last = HostHold.objects.filter(host=host, kind=HostHold.Kind.QUARANTINE).exclude(ended_at=None)
    if moment := last.order_by("-ended_at").values_list("ended_at", flat=True).first():
        ended = ended.filter(created_at__gt=moment)
    return list(ended.order_by("-pk")[: settings.QUARANTINE_SAMPLE])


def _after(seconds: float) -> datetime:
    return database_now() + timedelta(seconds=seconds)
