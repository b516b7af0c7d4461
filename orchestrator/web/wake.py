"""Waking waiters in other processes, through Redis. A lost wake-up costs them a second, no more."""

from __future__ import annotations

import asyncio
from functools import lru_cache
from typing import TYPE_CHECKING

import redis
import structlog
from django.conf import settings
from redis import asyncio as redis_asyncio
from redis.asyncio.retry import Retry as AsyncRetry
from redis.backoff import NoBackoff
from redis.retry import Retry

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable

log = structlog.get_logger(__name__)
CHANNEL = "orchestrator:wake"
RECONNECT_SECONDS = 1.0
STOP_SECONDS = 0.2
PING_SECONDS = 5.0  # how long a connection may be silent before it is asked whether it lives


@lru_cache(maxsize=1)
def client() -> redis.Redis:
    """Return the process's client, which threads share; its calls end within a second."""
    # The package's default of three tries would make a caller wait for seconds.
    return redis.Redis.from_url(
        settings.REDIS_URL,
        socket_connect_timeout=0.5,
        socket_timeout=0.5,
        retry=Retry(NoBackoff(), 0),
    )


def wake(name: str) -> None:
    """Tell every listening process that `name` (`job:<id>`, `events`) changed. Never raises."""
    try:
        client().publish(CHANNEL, name)
    except redis.RedisError as error:
        log.info("wake.lost", name=name, error=type(error).__name__)


def first(name: str, seconds: int) -> bool:
    """Return whether nobody else asked for `name` within the last `seconds`, or since `forget`.

    Raises `RedisError`, within a second.
    """
    return bool(client().set(f"orchestrator:first:{name}", 1, nx=True, ex=seconds))


def forget(name: str) -> None:
    """Let the next one who asks be the first again. Never raises: it ends by itself."""
    try:
        client().delete(f"orchestrator:first:{name}")
    except redis.RedisError as error:
        log.info("forget.lost", name=name, error=type(error).__name__)


def broker_answers() -> bool:
    """Return whether Redis answers within a second."""
    try:
        return bool(client().ping())
    except redis.RedisError:
        return False


class Hub:
    """A subscription of an asyncio process, as a rule its one: hands every name to its listeners.

    Listeners are called in the event loop and must not block. While Redis is away nothing comes,
    so whoever listens also looks by itself each second.
    """

    def __init__(self, channel: str = CHANNEL) -> None:
        self._channel = channel
        self._listeners: list[Callable[[str], None]] = []
        self._task: asyncio.Task[None] | None = None

    def listen(self, listener: Callable[[str], None]) -> None:
        """Call `listener` with every name from now on."""
        self._listeners.append(listener)

    def start(self) -> None:
        """Begin to listen, in the running event loop."""
        if self._task is None:
            self._task = asyncio.create_task(self._run(), name="wake-hub")

    async def stop(self) -> None:
        """End the subscription."""
        task, self._task = self._task, None
        while task and not task.done():
            task.cancel()  # again: a connection that is being made swallows it
            await asyncio.wait({task}, timeout=STOP_SECONDS)

    async def _run(self) -> None:
        away = False
        while True:
            try:
                async for name in _names(self._channel):
                    away = False
                    for listener in self._listeners:
                        listener(name)
            except (redis.RedisError, OSError) as error:
                if not away:
                    log.warning("wake.redis_away", error=type(error).__name__)
                away = True
            await asyncio.sleep(RECONNECT_SECONDS)


async def _names(channel: str) -> AsyncIterator[str]:
    """Yield the names that are woken; raises `RedisError` or `OSError` when the connection ends."""
    client = redis_asyncio.Redis.from_url(
        settings.REDIS_URL,
        decode_responses=True,
        socket_connect_timeout=1,
        socket_timeout=PING_SECONDS,
        retry=AsyncRetry(NoBackoff(), 0),
    )
    try:
        async with client.pubsub() as subscription:
            await subscription.subscribe(channel)
            yield ""  # whatever was missed while away: everybody looks once
            asked = False
            while True:
                message = await subscription.get_message(timeout=PING_SECONDS)
                if message is None:
                    if asked:  # a connection that died without a word
                        raise redis.TimeoutError("no answer to a ping")
                    await subscription.ping()
                asked = message is None
                if message and message["type"] == "message":
                    yield message["data"]
    finally:
        await client.aclose()
