"""At which pace bytes go out: one rate under a key, shared by all who send under it.

Redis shares the pace between processes; while it is away each process keeps it for itself.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

import redis
import structlog

from orchestrator.web.rates import MOST_KEPT, QUIET_SECONDS, shared_client

if TYPE_CHECKING:
    from redis import asyncio as redis_asyncio

log = structlog.get_logger(__name__)

# The moment from which the key is free again moves on by what these bytes take; nobody saves up.
# Returns the microseconds until it was free.
_SCRIPT = """
local clock = redis.call('TIME')
local now = clock[1] * 1000000 + clock[2]
local free = math.max(tonumber(redis.call('GET', KEYS[1]) or 0), now)
local ends = free + tonumber(ARGV[1])
local left = math.ceil((ends - now) / 1000) + 1000
redis.call('SET', KEYS[1], string.format('%.0f', ends), 'PX', left)
return free - now
"""


class Pace:
    """Tells each sender when its turn is."""

    def __init__(self) -> None:
        self._free: dict[str, float] = {}
        self._away_until = 0.0
        self._client: redis_asyncio.Redis = shared_client()
        self._script = self._client.register_script(_SCRIPT)

    async def turn(self, key: str, size: int, rate: float) -> float:
        """Take the turn for `size` bytes at `rate` bytes a second; return the seconds until it."""
        takes = size / rate
        if time.monotonic() >= self._away_until:
            try:
                wait = await self._script(keys=[f"pace:{key}"], args=[round(takes * 1_000_000)])
                return int(wait) / 1_000_000
            except (redis.RedisError, OSError) as error:
                self._away_until = time.monotonic() + QUIET_SECONDS
                log.warning("pace.redis_away", error=type(error).__name__)
        now = time.monotonic()
        free = max(self._free.get(key, 0.0), now)
        if len(self._free) >= MOST_KEPT:
            self._free = {name: until for name, until in self._free.items() if until > now}
        self._free[key] = free + takes
        return free - now

    async def close(self) -> None:
        """Let the connections go."""
        await self._client.aclose()
