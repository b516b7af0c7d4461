"""The rules of the queue over random arrivals: pure functions and a clock made of numbers."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from uuid import UUID

from hypothesis import given, settings
from hypothesis import strategies as st

from hosts.capacity import Size
from vms.placement.rules import HostView, Wish, needs
from vms.placement.scheduling import Asking, Release, Schedule, Use, in_order, rank

START = datetime(2026, 1, 1, tzinfo=UTC)
NEVER_AGES = 1e9
TEAM, OTHER = UUID(int=1001), UUID(int=1002)


@dataclass(frozen=True)
class Request:
    """A VM that somebody asks for at `at`, leased for `lease` seconds, gone after `lives`."""

    number: int
    at: int
    cpus: int
    lease: int
    lives: int
    priority: int = 5
    share: UUID | None = None

    @property
    def id(self) -> UUID:
        return UUID(int=self.number + 1)

    @property
    def wish(self) -> Wish:
        return Wish(size=Size(self.cpus, 1, 1), images={})


@dataclass
class World:
    """A pool, time in whole seconds, and a placer that works as the real one, without a store."""

    totals: list[int]
    requests: list[Request]
    aging: float = NEVER_AGES
    weights: dict[UUID | None, int] = field(default_factory=dict)
    now: int = 0
    pending: list[Request] = field(default_factory=list)
    running: dict[Request, tuple[int, int]] = field(default_factory=dict)  # host, since
    started: dict[Request, int] = field(default_factory=dict)
    head_promises: dict[Request, int] = field(default_factory=dict)

    def moment(self, second: int) -> datetime:
        return START + timedelta(seconds=second)

    def used(self, host: int) -> int:
        return sum(one.cpus for one, (where, _) in self.running.items() if where == host)

    def play(self) -> None:
        """Let everything arrive, run and end."""
        arrivals = sorted(self.requests, key=lambda one: (one.at, one.number))
        for _ in range(10_000):
            moments = [one.at for one in arrivals if one.at > self.now]
            moments += [since + one.lives for one, (_, since) in self.running.items()]
            for one in list(arrivals):
                if one.at <= self.now:
                    arrivals.remove(one)
                    self.pending.append(one)
            for one, (_, since) in list(self.running.items()):
                if since + one.lives <= self.now:
                    del self.running[one]
            self.place()
            moments += [since + one.lives for one, (_, since) in self.running.items()]
            later = [moment for moment in moments if moment > self.now]
            if not later:
                return
            self.now = min(later)
        raise AssertionError("It never ended.")

    def place(self) -> None:
        hosts = [self.view(number, total) for number, total in enumerate(self.totals)]
        schedule = Schedule(hosts, self.releases, self.moment(self.now))
        by_id = {one.id: one for one in self.pending}
        used: dict[UUID | None, Use] = {}
        for one in self.running:
            used[one.share] = used.get(one.share, Use()).plus(Use(one.cpus, 1))
        order = in_order(
            [
                Asking(
                    one.id,
                    rank(one.priority, self.now - one.at, self.aging),
                    one.share,
                    Use(one.cpus, 1),
                )
                for one in self.pending
            ],
            used,
            self.weights,
            Use(sum(self.totals), 10**6),
        )
        waits = False
        for asking in order:
            one = by_id[asking.id]
            until = self.moment(self.now + one.lease)
            openings, _ = schedule.openings(one.wish, until)
            if openings:
                chosen = min(
                    openings, key=lambda opening: (bool(opening.yields), opening.host.name)
                )
                schedule.take(chosen.host, needs(one.wish, chosen.host), until)
                self.running[one] = (hosts.index(chosen.host), self.now)
                self.started[one] = self.now
                self.pending.remove(one)
                continue
            kept = schedule.reserve(one.id, one.wish)
            if kept and kept.at and not waits:
                promised = int((kept.at - START).total_seconds())
                self.head_promises.setdefault(one, promised)
            waits = True
        for number, total in enumerate(self.totals):
            assert self.used(number) <= total

    def view(self, number: int, total: int) -> HostView:
        amounts = {"cpus": total, "memory_mib": 10**6, "disk_gib": 10**6, "macos_slots": 0}
        return HostView(
            id=UUID(int=number + 5000),
            name=f"mac-{number}",
            healthy=True,
            health="healthy",
            architecture="arm64",
            tags=frozenset(),
            holds=(),
            on_probation=False,
            total=amounts,
            free={**amounts, "cpus": total - self.used(number)},
            overcommitted=False,
            disk_free_gib=10**6,
            shared_volume=None,
            latency_ms=1.0,
        )

    def releases(self) -> dict[UUID, list[Release]]:
        found: dict[UUID, list[Release]] = {}
        for one, (host, since) in self.running.items():
            release = Release(self.moment(since + one.lease), {"cpus": one.cpus})
            found.setdefault(UUID(int=host + 5000), []).append(release)
        return found


@st.composite
def worlds(draw: st.DrawFn, *, mixed: bool) -> World:
    totals = draw(st.lists(st.integers(2, 8), min_size=1, max_size=3))
    largest = max(totals)
    count = draw(st.integers(1, 25))
    requests = []
    for number in range(count):
        lease = draw(st.integers(1, 40))
        requests.append(
            Request(
                number,
                # Ids are sortable by age.
                at=(requests[-1].at if requests else 0) + draw(st.integers(0, 10)),
                cpus=draw(st.integers(1, largest)),
                lease=lease,
                lives=draw(st.integers(1, lease)),
                priority=draw(st.integers(0, 9)) if mixed else 5,
                share=draw(st.sampled_from([TEAM, OTHER, None])) if mixed else None,
            )
        )
    aging = draw(st.sampled_from([5.0, 50.0, NEVER_AGES])) if mixed else NEVER_AGES
    return World(totals, requests, aging=aging, weights={TEAM: draw(st.integers(1, 5))})


@given(worlds(mixed=True))
@settings(max_examples=150, deadline=None)
def test_capacity_is_never_exceeded_and_everything_that_fits_gets_its_host(world: World) -> None:
    world.play()
    assert world.pending == []
    assert len(world.started) == len(world.requests)


@given(worlds(mixed=False))
@settings(max_examples=150, deadline=None)
def test_who_is_first_starts_no_later_than_the_leases_of_others_promised(world: World) -> None:
    world.play()
    for one, promised in world.head_promises.items():
        assert world.started[one] <= promised


@given(
    st.lists(
        st.tuples(st.integers(0, 9), st.sampled_from([TEAM, OTHER, None]), st.integers(1, 8)),
        max_size=40,
    )
)
def test_a_higher_rank_goes_first_and_age_decides_within_a_share(
    rows: list[tuple[int, UUID | None, int]],
) -> None:
    asking = [
        Asking(UUID(int=number), level, share, Use(cpus, 1))
        for number, (level, share, cpus) in enumerate(rows)
    ]
    order = in_order(asking, {}, {TEAM: 3}, Use(16, 16))
    assert sorted(one.id for one in order) == [one.id for one in asking]
    for earlier, later in pairwise(order):
        assert earlier.rank >= later.rank
    for share in (TEAM, OTHER, None):
        for level in range(10):
            ids = [one.id for one in order if (one.share, one.rank) == (share, level)]
            assert ids == sorted(ids)


@given(st.integers(1, 6), st.integers(1, 6), st.integers(1, 60))
def test_shares_take_turns_by_their_weights(first: int, second: int, count: int) -> None:
    asking = [
        Asking(UUID(int=number), 5, share, Use(1, 1))
        for number, share in enumerate([TEAM] * 60 + [OTHER] * 60)
    ]
    order = in_order(asking, {}, {TEAM: first, OTHER: second}, Use(64, 64))[:count]
    got = {share: sum(one.share == share for one in order) for share in (TEAM, OTHER)}
    if max(got.values()) < 60:
        assert abs(got[TEAM] * second - got[OTHER] * first) <= max(first, second)


def test_what_a_share_has_already_counts() -> None:
    asking = [Asking(UUID(int=n), 5, share, Use(1, 1)) for n, share in enumerate([TEAM, OTHER])]
    order = in_order(asking, {TEAM: Use(4, 1)}, {}, Use(16, 16))
    assert [one.share for one in order] == [OTHER, TEAM]


def test_a_low_priority_is_not_starved_by_a_stream_of_high_ones() -> None:
    stream = [Request(n, at=n, cpus=2, lease=4, lives=4, priority=9) for n in range(1, 400)]
    humble = Request(0, at=0, cpus=2, lease=4, lives=4, priority=0)
    world = World([2], [humble, *stream], aging=10.0)
    world.pending = [Request(1000, at=0, cpus=2, lease=4, lives=4, priority=9)]
    world.play()
    # Nine steps of priority are nine times ten seconds: who came later than that is behind it.
    ahead = [one for one in stream if world.started[one] < world.started[humble]]
    assert max(one.at for one in ahead) <= 90
    without = World([2], [humble, *stream])
    without.pending = [Request(1000, at=0, cpus=2, lease=4, lives=4, priority=9)]
    without.play()
    assert all(without.started[one] < without.started[humble] for one in stream)


def test_a_small_one_goes_ahead_only_where_it_delays_nobody() -> None:
    world = World([8], [])
    world.running[Request(0, at=0, cpus=5, lease=100, lives=100)] = (0, 0)
    large = Request(1, at=1, cpus=7, lease=50, lives=50)
    too_long = Request(2, at=2, cpus=2, lease=200, lives=200)
    beside = Request(3, at=3, cpus=1, lease=1000, lives=1000)
    short = Request(4, at=4, cpus=2, lease=90, lives=90)
    world.pending = [large, too_long, beside, short]
    world.now = 5
    world.place()
    assert set(world.started) == {beside, short}
    assert world.head_promises == {large: 100}


def test_one_that_nobody_knows_when_it_fits_keeps_one_host_and_no_other() -> None:
    world = World([8, 8], [])
    forever = Wish(size=Size(6, 1, 1), images={})
    views = [world.view(number, 8) for number in range(2)]
    for view in views:
        view.free["cpus"] = 4
    schedule = Schedule(views, dict, START)
    kept = schedule.reserve(UUID(int=1), forever)
    assert kept
    assert (kept.host_id, kept.at) == (views[0].id, None)
    openings, _ = schedule.openings(Wish(size=Size(1, 1, 1), images={}), START)
    assert [opening.host.name for opening in openings] == ["mac-1"]
