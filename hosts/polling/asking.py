"""Asking many hosts at once: one event loop, in a thread of its own, that never sees the database.

Answers come out in waves while the rest is still being waited for, so a slow host delays nobody.
"""

from __future__ import annotations

import asyncio
import queue
import threading
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

import structlog
from django.conf import settings

from hosts.calls import limits
from hosts.drivers import open_async_driver
from hosts.drivers.base import ErrorKind, HostError
from hosts.health import Sign, sign_of

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from datetime import datetime

    from hosts.drivers.base import AsyncDriver, Inventory
    from hosts.polling.claims import Clock, Due

log = structlog.get_logger(__name__)

WAVE_SECONDS = 0.25
INVENTORY_SECONDS = 60.0  # for all calls of one inventory


@dataclass(frozen=True)
class Probed:
    """What a probe found: a latency in milliseconds, or an error that occurred `times` times."""

    due: Due
    latency_ms: float | None = None
    error: HostError | None = None
    times: int = 1

    @property
    def inventory_follows(self) -> bool:
        return self.error is None and self.due.wants_inventory


@dataclass(frozen=True)
class Listed:
    """What the request for an inventory, begun at `began_at` of the database's time, brought."""

    due: Due
    began_at: datetime
    outcome: Inventory | HostError


Answer = Probed | Listed


def ask(due: list[Due], clock: Clock) -> Iterator[list[Answer]]:
    """Probe the hosts, inventory those that are due for it and answer; yield waves of answers."""
    answers: queue.SimpleQueue[Answer | None] = queue.SimpleQueue()

    def work() -> None:
        try:
            asyncio.run(_ask_all(due, clock, answers.put))
        except Exception:
            log.exception("poll.loop_failed")
        finally:
            answers.put(None)

    threading.Thread(target=work, name="poll", daemon=True).start()
    more = True
    while more:
        wave, more = _next_wave(answers)
        if wave:
            yield wave


def _next_wave(answers: queue.SimpleQueue[Answer | None]) -> tuple[list[Answer], bool]:
    """Wait for an answer and take what comes within the next moment; say whether more may come."""
    wave: list[Answer] = []
    ends = float("inf")
    while True:
        left = None if not wave else max(0.0, ends - time.monotonic())
        try:
            answer = answers.get(timeout=left)
        except queue.Empty:
            return wave, True
        if answer is None:
            return wave, False
        if not wave:
            ends = time.monotonic() + WAVE_SECONDS
        wave.append(answer)


async def _ask_all(due: list[Due], clock: Clock, put: Callable[[Answer], None]) -> None:
    # Inventories have a gate of their own: they are long, and probes must not queue behind them.
    probes = asyncio.Semaphore(settings.HOST_POLL_CONCURRENCY)
    inventories = asyncio.Semaphore(settings.HOST_POLL_CONCURRENCY)
    async with asyncio.TaskGroup() as group:
        for one in due:
            group.create_task(_ask(one, clock, put, probes, inventories))


async def _ask(
    due: Due,
    clock: Clock,
    put: Callable[[Answer], None],
    probes: asyncio.Semaphore,
    inventories: asyncio.Semaphore,
) -> None:
    try:
        driver = open_async_driver(
            due.host.driver,
            due.host.connection,
            limits=limits(confirming=due.vitals.unsettled),
        )
    except Exception as error:
        put(Probed(due, error=_unexpected(due, error)))
        return
    try:
        async with probes:
            probed = await _probe(due, driver)
        put(probed)
        if probed.inventory_follows:
            async with inventories:
                put(await _list(due, driver, clock))
    finally:
        try:
            await driver.aclose()
        except Exception:
            log.exception("poll.close_failed", host_id=str(due.host.pk))


async def _probe(due: Due, driver: AsyncDriver) -> Probed:
    """Probe once; a refused connection is confirmed by a second probe at once."""
    first: HostError | None = None
    while True:
        try:
            return Probed(due, latency_ms=await driver.probe())
        except HostError as error:
            problem = error
        except Exception as error:
            problem = _unexpected(due, error)
        if first is not None:
            return Probed(due, error=problem, times=2 if sign_of(problem) == Sign.GONE else 1)
        if sign_of(problem) != Sign.GONE:
            return Probed(due, error=problem)
        first = problem


async def _list(due: Due, driver: AsyncDriver, clock: Clock) -> Listed:
    began_at = clock.now()
    try:
        async with asyncio.timeout(INVENTORY_SECONDS):
            return Listed(due, began_at, await driver.inventory())
    except HostError as error:
        return Listed(due, began_at, error)
    except TimeoutError:
        message = (
            f"The host did not give its inventory within {INVENTORY_SECONDS:g} seconds. "
            "Check its load."
        )
        return Listed(due, began_at, HostError(ErrorKind.TIMEOUT, message))
    except Exception as error:
        return Listed(due, began_at, _unexpected(due, error))


def _unexpected(due: Due, error: Exception) -> HostError:
    log.error("poll.failed", host_id=str(due.host.pk), exc_info=error)
    return HostError(
        ErrorKind.BAD_ANSWER,
        f"Polling this host failed inside the product ({type(error).__name__}). "
        "The log tells more under the id of the host.",
    )
