"""Which hosts are due, and which tick has them in work."""

from __future__ import annotations

import time
import uuid
from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING

import structlog
from django.conf import settings
from django.core.exceptions import ImproperlyConfigured
from django.db.models import Q
from django.db.models.functions import Now

from hosts.health import Vitals
from hosts.models import Host, HostStatus
from orchestrator.db.clock import database_now, from_now

if TYPE_CHECKING:
    from collections.abc import Collection
    from datetime import datetime
    from uuid import UUID

log = structlog.get_logger(__name__)

# How long a tick may take to a host's probe before another tick takes the host over. What the
# first one finds out after that is dropped.
CLAIM_SECONDS = 30.0
UNREADABLE = (
    "Its credentials cannot be read with the keys of this installation. "
    "Add the key that was in use to FIELD_KEYS, or enter the credentials again."
)


@dataclass(frozen=True)
class Clock:
    """The database's time without asking the database: it runs on from one look at it."""

    looked_at: datetime
    ticks: float

    @classmethod
    def look(cls) -> Clock:
        looked_at = database_now()
        return cls(looked_at, time.monotonic())

    def now(self) -> datetime:
        """Return the database's time, or a moment earlier; never later."""
        return self.looked_at + timedelta(seconds=time.monotonic() - self.ticks)


@dataclass(frozen=True)
class Due:
    """A host to be probed, with what is known of it."""

    host: Host
    vitals: Vitals
    wants_inventory: bool


@dataclass(frozen=True)
class Shard:
    """Hosts that one tick has claimed. `unreadable` ones cannot be asked."""

    claim: UUID
    clock: Clock
    due: list[Due]
    unreadable: list[Host]


def claim_shard() -> Shard | None:
    """Claim up to HOST_POLL_SHARD due hosts by one conditional UPDATE; None when nothing is due.

    The condition stands inside and outside of the subquery: on PostgreSQL a second tick waits for
    the rows of the first, then looks at the outer one again and leaves them alone.
    """
    claim = uuid.uuid4()
    due = Q(next_poll_at__lte=Now()) & (Q(poll_until=None) | Q(poll_until__lte=Now()))
    longest_waiting = (
        HostStatus.objects.filter(due, host__in=Host.objects.polled())
        .order_by("next_poll_at", "pk")
        .values("pk")[: settings.HOST_POLL_SHARD]
    )
    claimed = HostStatus.objects.filter(due, pk__in=longest_waiting).update(
        poll_claim=claim, poll_until=from_now(CLAIM_SECONDS)
    )
    if not claimed:
        return None
    clock = Clock.look()
    statuses = list(HostStatus.objects.filter(poll_claim=claim).order_by("pk"))
    hosts, unreadable = load_hosts([status.pk for status in statuses])
    return Shard(
        claim,
        clock,
        [
            Due(
                hosts[status.pk],
                Vitals.of(status),
                wants_inventory=status.inventory_due_at <= clock.looked_at,
            )
            for status in statuses
            if status.pk in hosts
        ],
        unreadable,
    )


def load_hosts(ids: Collection[UUID]) -> tuple[dict[UUID, Host], list[Host]]:
    """Return the hosts by id, and apart from them those whose credentials no key decrypts."""
    try:
        return Host.objects.in_bulk(ids), []
    except ImproperlyConfigured:  # of one at least: it is found by reading each alone
        pass
    hosts: dict[UUID, Host] = {}
    unreadable: list[Host] = []
    for host_id in ids:
        try:
            hosts |= Host.objects.in_bulk([host_id])
        except ImproperlyConfigured:
            unreadable += Host.objects.filter(pk=host_id).defer("password", "api_key")
    log.warning("hosts.unreadable_credentials", hosts=[host.name for host in unreadable])
    return hosts, unreadable


def poll_soon(host: Host) -> None:
    """Have the next tick probe the host."""
    HostStatus.objects.filter(pk=host.pk).update(next_poll_at=Now())


def poll_host_now(host: Host) -> None:
    """Have the next tick probe the host and read its inventory. A disabled host stays alone."""
    HostStatus.objects.filter(pk=host.pk).update(next_poll_at=Now(), inventory_due_at=Now())
