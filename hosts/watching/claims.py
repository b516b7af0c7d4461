"""Which watcher follows which hosts: leases in the database, spread evenly."""

from __future__ import annotations

from typing import TYPE_CHECKING

from django.conf import settings
from django.db import transaction
from django.db.models.functions import Now

from events.publishing import publish
from hosts.models import Host, HostWatch
from orchestrator.db.clock import from_now
from orchestrator.db.models import RowLease

if TYPE_CHECKING:
    from uuid import UUID

    from hosts.models import HostWatchQuerySet

FORGET_SECONDS = 3600
PRESENCE = "watcher:"  # the names of the rows that tell how many watchers there are


def hold(holder: UUID) -> set[UUID]:
    """Renew what `holder` has, take what is free, give away what is too much; return the hosts.

    Safe to call at once in any number of watchers: every step is one conditional UPDATE.
    """
    seconds = settings.HOST_WATCH_LEASE_SECONDS
    RowLease.take(f"{PRESENCE}{holder}", holder, seconds)
    _add_missing_rows()
    polled = Host.objects.polled().values("pk")
    ours = HostWatch.objects.filter(holder=holder)
    ours.update(held_until=from_now(seconds))
    _let_go(ours.exclude(host__in=polled), "")
    surplus = ours.count() - _share()
    if surplus > 0:
        given_up = ours.order_by("-host_id").values_list("host_id", flat=True)[:surplus]
        _let_go(ours.filter(host__in=list(given_up)), "Another watcher takes it over.")
    elif surplus < 0:
        free = HostWatch.objects.free().filter(host__in=polled)
        taken = free.order_by("host_id").values_list("host_id", flat=True)[:-surplus]
        free.filter(host__in=list(taken)).update(
            holder=holder, held_until=from_now(seconds), live_since=None
        )
    return set(ours.values_list("host_id", flat=True))


def _share() -> int:
    """Return how many hosts one watcher follows when all follow equally many, rounded up."""
    alive = RowLease.objects.filter(name__startswith=PRESENCE, until__gt=Now()).count()
    hosts = Host.objects.polled().count()
    return -(-hosts // max(1, alive))


def _add_missing_rows() -> None:
    missing = Host.objects.polled().filter(watch=None)
    HostWatch.objects.bulk_create(
        [HostWatch(host_id=pk) for pk in missing.values_list("pk", flat=True)],
        ignore_conflicts=True,
    )


def _let_go(rows: HostWatchQuerySet, problem: str) -> None:
    for host_id, holder in rows.filter(live_since__isnull=False).values_list("host_id", "holder"):
        lost(host_id, holder, problem)
    rows.update(holder=None, held_until=None, live_since=None)


def leave(holder: UUID) -> None:
    """Let go of everything, so that another watcher need not wait for the leases to end."""
    _let_go(HostWatch.objects.filter(holder=holder), "Its watcher was stopped.")
    RowLease.objects.filter(name=f"{PRESENCE}{holder}").delete()
    RowLease.objects.filter(name__startswith=PRESENCE, until__lt=from_now(-FORGET_SECONDS)).delete()


def live(host_id: UUID, holder: UUID) -> None:
    """Note that the host's events come in, if that is news."""
    if HostWatch.objects.filter(pk=host_id, holder=holder, live_since=None).exists():
        _note(host_id, holder, live_since=Now(), problem="")


def lost(host_id: UUID, holder: UUID | None, problem: str) -> None:
    """Note that the host's events do not come in, and why."""
    rows = HostWatch.objects.filter(pk=host_id, holder=holder)
    if rows.filter(live_since__isnull=False).exists():
        _note(host_id, holder, live_since=None, lost_at=Now(), problem=problem[:300])
    elif rows.exclude(problem=problem[:300]).exists():
        _note(host_id, holder, problem=problem[:300])


def _note(host_id: UUID, holder: UUID | None, **values: object) -> None:
    with transaction.atomic():
        if HostWatch.objects.filter(pk=host_id, holder=holder).update(**values):
            name = Host.objects.values_list("name", flat=True).get(pk=host_id)
            told = {"name": name}
            if "live_since" in values:
                told["events"] = "lost" if values["live_since"] is None else "live"
            publish("host.changed", f"host:{host_id}", told, permission="hosts.view")
