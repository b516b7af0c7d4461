"""Who is next, and what those behind may take meanwhile. Pure: no database, no clock.

The order is by rank (priority, and a step more for each while that was waited), then by weighted
share, then by age. Who does not fit gets a reservation: the host on which the leases of others end
soonest, from that moment on. Those behind may take what leaves every reservation whole (backfill).
"""

from __future__ import annotations

from collections import defaultdict, deque
from dataclasses import dataclass, field
from heapq import heapify, heappop, heappush
from typing import TYPE_CHECKING, NamedTuple

from vms.placement.rules import EVER, NOW, could_ever, needs, reject

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence
    from datetime import datetime
    from uuid import UUID

    from vms.placement.rules import HostView, Rejection, Wish

MAXIMUM_RESERVATIONS = 50  # in one pass; the ones behind them wait without
BUT_CAPACITY = [rule for name, rule in {**EVER, **NOW}.items() if name != "capacity"]


class Use(NamedTuple):
    """How much of the pool somebody has."""

    cpus: int = 0
    memory_mib: int = 0

    def plus(self, other: Use) -> Use:
        return Use(self.cpus + other.cpus, self.memory_mib + other.memory_mib)

    def share_of(self, pool: Use) -> float:
        """Return the larger of the two fractions: whoever has most of the CPUs has most."""
        return max(self.cpus / max(1, pool.cpus), self.memory_mib / max(1, pool.memory_mib))


@dataclass(frozen=True)
class Asking:
    """A pending VM, as the order of the queue sees it. Ids are sortable by age."""

    id: UUID
    rank: int
    share: UUID | None  # the role on whose share it counts
    size: Use


def rank(priority: int, waited_seconds: float, aging_seconds: float) -> int:
    """Return the priority, one more for each `aging_seconds` waited: nobody waits for ever."""
    return priority + int(max(0.0, waited_seconds) // aging_seconds)


def in_order(
    asking: Iterable[Asking],
    used: Mapping[UUID | None, Use],
    weights: Mapping[UUID | None, int],
    pool: Use,
) -> list[Asking]:
    """Return who is next: the highest rank, in it the share that has least for its weight.

    Each one counts for its share as if it had got its host, so that shares take turns. Within a
    share age decides. `used` is what each share has now.
    """
    has = dict(used)
    by_rank: dict[int, dict[UUID | None, deque[Asking]]] = defaultdict(lambda: defaultdict(deque))
    for one in sorted(asking, key=lambda one: one.id):
        by_rank[one.rank][one.share].append(one)
    order: list[Asking] = []

    def turn(share: UUID | None, line: deque[Asking]) -> tuple[float, UUID, UUID | None]:
        weighted = has.get(share, Use()).share_of(pool) / max(1, weights.get(share, 1))
        return (weighted, line[0].id, share)

    for level in sorted(by_rank, reverse=True):
        lines = by_rank[level]
        turns = [turn(share, line) for share, line in lines.items()]
        heapify(turns)
        while turns:
            share = heappop(turns)[2]
            one = lines[share].popleft()
            order.append(one)
            has[share] = has.get(share, Use()).plus(one.size)
            if lines[share]:
                heappush(turns, turn(share, lines[share]))
    return order


@dataclass(frozen=True)
class Release:
    """What a host gets back at a moment, if nothing is extended: a lease ends there."""

    at: datetime
    amounts: Mapping[str, int]


@dataclass(frozen=True)
class Reservation:
    """A host that somebody waits for. `at` is when it will have room; None when nobody knows."""

    owner: UUID
    host_id: UUID
    at: datetime | None
    amounts: Mapping[str, int]


@dataclass(frozen=True)
class Opening:
    """A host that may be taken now. `yields` is the reservation that it must be gone for."""

    host: HostView
    yields: Reservation | None = None


@dataclass
class Schedule:
    """The hosts during one pass of the placer: what is free, what will be, and for whom.

    `releases` is asked once, when the first one has to wait.
    """

    hosts: Sequence[HostView]
    releases: Callable[[], Mapping[UUID, Sequence[Release]]]
    now: datetime
    reservations: dict[UUID, list[Reservation]] = field(default_factory=dict)
    _coming: dict[UUID, list[Release]] | None = None

    def openings(
        self, wish: Wish, until: datetime | None
    ) -> tuple[list[Opening], list[tuple[HostView, Rejection]]]:
        """Return the hosts that may take `wish` now, and why the others may not.

        `until` is when it will be gone for certain; None when nobody knows. A host that is kept for
        an earlier request is in neither list.
        """
        found: list[Opening] = []
        rejected: list[tuple[HostView, Rejection]] = []
        for host in self.hosts:
            if rejection := reject(wish, host):
                rejected.append((host, rejection))
            elif opening := self._opening(host, needs(wish, host), until):
                found.append(opening)
        return found, rejected

    def _opening(
        self, host: HostView, amounts: Mapping[str, int], until: datetime | None
    ) -> Opening | None:
        yields: Reservation | None = None
        for reservation in self.reservations.get(host.id, ()):
            if reservation.at is None:
                return None
            room = self._room(host, reservation.at)
            if all(need <= room[name] for name, need in amounts.items() if need):
                continue
            if until is None or until > reservation.at:
                return None
            if yields is None or yields.at is None or reservation.at < yields.at:
                yields = reservation
        return Opening(host, yields)

    def _room(self, host: HostView, at: datetime) -> dict[str, int]:
        """Return what will be left at a moment, when all reservations up to it are taken."""
        room = dict(host.free)
        for release in self._releases_of(host.id):
            if release.at <= at:
                _add(room, release.amounts, 1)
        for reservation in self.reservations.get(host.id, ()):
            if reservation.at is not None and reservation.at <= at:
                _add(room, reservation.amounts, -1)
        return room

    def _releases_of(self, host_id: UUID) -> list[Release]:
        if self._coming is None:
            self._coming = {
                host: sorted(every, key=lambda one: one.at)
                for host, every in self.releases().items()
            }
        return self._coming.setdefault(host_id, [])

    def take(self, host: HostView, amounts: Mapping[str, int], until: datetime | None) -> None:
        """Note that something was placed on `host` in this pass."""
        _add(host.free, amounts, -1)
        if until is not None and self._coming is not None:
            coming = self._releases_of(host.id)
            coming.append(Release(until, amounts))
            coming.sort(key=lambda one: one.at)

    def reserve(self, owner: UUID, wish: Wish) -> Reservation | None:
        """Keep a host for `wish`: where it will fit soonest, else where least is missing.

        Returns None when no host could take it, were it empty, or when others have reserved enough.
        """
        if sum(map(len, self.reservations.values())) >= MAXIMUM_RESERVATIONS:
            return None
        best: tuple[bool, float, str, Reservation] | None = None
        for host in self.hosts:
            if any(rule(wish, host) for rule in BUT_CAPACITY):
                continue
            amounts = needs(wish, host)
            at, missing = self._fits_at(host, amounts)
            if at is None and self.reservations.get(host.id):
                continue  # it comes behind those; a host kept for ever would keep all others out
            soonness = missing if at is None else (at - self.now).total_seconds()
            made = Reservation(owner, host.id, at, amounts)
            if best is None or (at is None, soonness, host.name) < best[:3]:
                best = (at is None, soonness, host.name, made)
        if best is None:
            return None
        reservation = best[3]
        self.reservations.setdefault(reservation.host_id, []).append(reservation)
        return reservation

    def _fits_at(self, host: HostView, amounts: Mapping[str, int]) -> tuple[datetime | None, float]:
        """Return when `amounts` fit beside all reservations; without that, how much is missing."""
        room = dict(host.free)
        for reservation in self.reservations.get(host.id, ()):
            _add(room, reservation.amounts, -1)
        at = self.now
        for release in (Release(self.now, {}), *self._releases_of(host.id)):
            _add(room, release.amounts, 1)
            at = max(at, release.at)
            if all(need <= room[name] for name, need in amounts.items() if need):
                return at, 0.0
        return None, sum(
            max(0, need - room[name]) / max(1, host.total[name]) for name, need in amounts.items()
        )

    def is_possible(self, wish: Wish) -> bool:
        """Return whether any host could take `wish`, were it empty and nothing held it."""
        return any(could_ever(wish, host) for host in self.hosts)


def _add(room: dict[str, int], amounts: Mapping[str, int], sign: int) -> None:
    for name, amount in amounts.items():
        room[name] += sign * amount
