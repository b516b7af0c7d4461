"""One event loop, in a thread of its own, that follows many hosts and never sees the database."""

from __future__ import annotations

import asyncio
import queue
import random
import threading
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

import structlog

from hosts.calls import limits
from hosts.drivers import open_async_driver
from hosts.drivers.base import ErrorKind, HostError, News
from hosts.watching.passing import Passing

if TYPE_CHECKING:
    from collections.abc import Iterable
    from uuid import UUID

    from hosts.models import Host

log = structlog.get_logger(__name__)

RETRY_SECONDS = (0.5, 1.0, 2.0, 5.0, 10.0, 30.0)
UNOFFERED_SECONDS = 300.0  # an update of the host may bring events


@dataclass(frozen=True)
class Told:
    """What one host told; or, without `news`, why nothing comes in now."""

    host_id: UUID
    news: News | None = None
    problem: str = ""


class Follower:
    """Follows the hosts that it is given; what they tell comes out of `told`.

    What they tell of themselves is passed on at once, and nothing of it is kept.
    """

    def __init__(self) -> None:
        self._passing = Passing()
        self.told: queue.SimpleQueue[Told] = queue.SimpleQueue()
        self._loop = asyncio.new_event_loop()
        self._hosts: dict[UUID, Host] = {}
        self._tasks: dict[UUID, asyncio.Task[None]] = {}
        self._thread = threading.Thread(target=self._loop.run_forever, name="events", daemon=True)
        self._thread.start()

    def follow(self, hosts: Iterable[Host]) -> None:
        """Follow these hosts; one that is followed already takes the new values at its next try."""
        for host in hosts:
            self._loop.call_soon_threadsafe(self._begin, host)

    def forget(self, host_ids: Iterable[UUID]) -> None:
        """Follow these hosts no longer."""
        for host_id in host_ids:
            self._loop.call_soon_threadsafe(self._end, host_id)

    def stop(self) -> None:
        """End all connections and the thread."""
        asyncio.run_coroutine_threadsafe(self._end_all(), self._loop).result(10)
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(10)

    def _begin(self, host: Host) -> None:
        self._hosts[host.pk] = host
        if host.pk not in self._tasks:
            self._tasks[host.pk] = self._loop.create_task(self._follow(host.pk))

    def _end(self, host_id: UUID) -> None:
        if task := self._tasks.pop(host_id, None):
            task.cancel()
            del self._hosts[host_id]
            self._passing.forget(host_id)

    async def _end_all(self) -> None:
        tasks = list(self._tasks.values())
        for host_id in list(self._tasks):
            self._end(host_id)
        await asyncio.gather(*tasks, return_exceptions=True)

    async def _follow(self, host_id: UUID) -> None:
        tries = 0
        while True:
            host, pause = self._hosts[host_id], 0.0
            try:
                driver = open_async_driver(host.driver, host.connection, limits=limits())
                try:
                    async for news in driver.news(partial(self._passing.on, host_id)):
                        tries = 0
                        self.told.put(Told(host_id, news))
                finally:
                    with suppress(Exception):
                        await driver.aclose()
                problem = "The host ended its events."
            except HostError as error:
                problem = error.message
                pause = UNOFFERED_SECONDS if error.kind is ErrorKind.NOT_FOUND else 0.0
            except Exception as error:
                log.exception("watch.failed", host_id=str(host_id))
                problem = f"Following it failed here ({type(error).__name__})."
            self.told.put(Told(host_id, problem=problem))
            pause = pause or RETRY_SECONDS[min(tries, len(RETRY_SECONDS) - 1)]
            tries += 1
            await asyncio.sleep(pause * random.uniform(0.8, 1.2))
