"""One watcher process: holds its share of the hosts and looks where they hint."""

from __future__ import annotations

import queue
import threading
import time
import uuid
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import TYPE_CHECKING

import structlog
from django.conf import settings
from django.db import connection, transaction

from events.sealing import seal_events
from hosts import inventory, lifecycle
from hosts.drivers.base import HostError, News
from hosts.models import Host
from hosts.polling.claims import UNREADABLE, load_hosts
from hosts.watching import claims
from hosts.watching.following import Follower

if TYPE_CHECKING:
    from collections.abc import Callable
    from uuid import UUID

    from hosts.watching.following import Told

log = structlog.get_logger(__name__)

THREADS = 8
# A host that tells much at once is listed once in this time, and jobs look as often.
LOOK_SECONDS = 0.5


class Watcher:
    """Follows a share of the hosts until `stop()`. Any number may run, on any machine."""

    def __init__(self) -> None:
        self.holder = uuid.uuid4()
        self._stopped = threading.Event()
        self._follower = Follower()
        self._looks = Looks(self._look)
        self._held: set[UUID] = set()
        self._followed: set[UUID] = set()  # those held whose credentials could be read
        self._renew_at = 0.0

    def stop(self) -> None:
        self._stopped.set()

    def run(self) -> None:
        """Watch until stopped. A database that is away only delays it."""
        try:
            while not self._stopped.is_set():
                if time.monotonic() >= self._renew_at:
                    self._guarded(self._hold)
                    self._renew_at = time.monotonic() + settings.HOST_WATCH_LEASE_SECONDS / 5
                for told in self._next():
                    self._guarded(partial(self._take, told))
        finally:
            self._follower.stop()
            self._looks.stop()
            self._guarded(partial(claims.leave, self.holder))
            connection.close()

    def _hold(self) -> None:
        held = claims.hold(self.holder)
        self._follower.forget(self._held - held)
        self._follow(held - self._followed)
        self._held = held
        self._followed &= held

    def _follow(self, host_ids: set[UUID]) -> None:
        """Follow these hosts with what is stored of them now; those that cannot be read, later."""
        if not host_ids:
            return
        readable, unreadable = load_hosts(host_ids)
        self._follower.follow(readable.values())
        self._followed |= readable.keys()
        for host in unreadable:
            claims.lost(host.pk, self.holder, UNREADABLE)

    def _next(self) -> list[Told]:
        """Return what was told, waiting a moment for it."""
        try:
            told = [self._follower.told.get(timeout=0.2)]
        except queue.Empty:
            return []
        while not self._follower.told.empty():
            told.append(self._follower.told.get())
        return told

    def _take(self, told: Told) -> None:
        if told.host_id not in self._held:
            return
        if told.news is None:
            claims.lost(told.host_id, self.holder, told.problem)
            self._follow({told.host_id})  # somebody may have entered other credentials
            return
        if told.news == News(listing=True):  # it stands: what was told before is not told again
            claims.live(told.host_id, self.holder)
        self._looks.ask(told.host_id, told.news)

    def _look(self, host_id: UUID, news: News) -> None:
        """Ask the host what it hinted at, record it, and let everybody see it at once."""
        try:
            host = Host.objects.polled().filter(pk=host_id).first()
            if host is None:
                return
            with transaction.atomic():
                for entry in lifecycle.on_news:
                    entry(host, news)
            if news.listing:
                try:
                    inventory.refresh(host)
                except HostError as error:
                    log.info("watch.not_listed", host_id=str(host_id), problem=error.message)
                seal_events()
        finally:
            connection.close()

    def _guarded(self, work: Callable[[], None]) -> None:
        try:
            work()
        except Exception:  # the database may be away for a moment: the next round tries again
            log.exception("watch.round_failed")
            connection.close()
            self._stopped.wait(1.0)


class Looks:
    """Looks at hosts in a few threads: one look per host at a time, and not too often."""

    def __init__(self, look: Callable[[UUID, News], None]) -> None:
        self._look = look
        self._pool = ThreadPoolExecutor(THREADS, thread_name_prefix="look")
        self._lock = threading.Lock()
        self._asked: dict[UUID, News] = {}
        self._busy: set[UUID] = set()

    def ask(self, host_id: UUID, news: News) -> None:
        """Have a look at the host, or one more after the one that is under way."""
        with self._lock:
            self._asked[host_id] = self._asked.get(host_id, News()) | news
            if host_id in self._busy:
                return
            self._busy.add(host_id)
        self._pool.submit(self._work, host_id)

    def _work(self, host_id: UUID) -> None:
        pause = threading.Event()
        while True:
            with self._lock:
                news = self._asked.pop(host_id, None)
                if news is None:
                    self._busy.discard(host_id)
                    return
            begun = time.monotonic()
            try:
                self._look(host_id, news)
            except Exception:
                log.exception("watch.look_failed", host_id=str(host_id))
            pause.wait(max(0.0, begun + LOOK_SECONDS - time.monotonic()))

    def stop(self) -> None:
        """Wait for the looks that are under way."""
        with self._lock:
            self._asked.clear()
        self._pool.shutdown(wait=True, cancel_futures=True)
