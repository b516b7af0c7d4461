"""A cache in Redis that goes on without it: limits are then kept per process, not dropped."""

from __future__ import annotations

import time
from typing import Any

import redis
import structlog
from django.core.cache.backends.base import DEFAULT_TIMEOUT
from django.core.cache.backends.locmem import LocMemCache
from django.core.cache.backends.redis import RedisCache

log = structlog.get_logger(__name__)

# After a failure Redis is left alone for a moment: a login makes ten calls, each would wait.
QUIET_SECONDS = 5.0


class FallbackRedisCache(RedisCache):
    """Django's Redis cache over a cache in memory that takes its place while Redis is away.

    `OPTIONS` go to the connections (seconds: `socket_connect_timeout`, `socket_timeout`).
    """

    def __init__(self, server: str, params: dict[str, Any]) -> None:
        super().__init__(server, params)
        memory = {key: value for key, value in params.items() if key != "OPTIONS"}
        self._memory = LocMemCache("redis-fallback", memory)
        self._away_until = 0.0

    def _try(self, name: str, *arguments: Any, **options: Any) -> Any:
        if time.monotonic() >= self._away_until:
            try:
                return getattr(super(), name)(*arguments, **options)
            except (redis.RedisError, OSError) as error:
                self._away_until = time.monotonic() + QUIET_SECONDS
                log.warning("cache.redis_away", error=type(error).__name__)
        return getattr(self._memory, name)(*arguments, **options)

    def add(
        self, key: Any, value: Any, timeout: Any = DEFAULT_TIMEOUT, version: Any = None
    ) -> bool:
        return self._try("add", key, value, timeout, version)

    def get(self, key: Any, default: Any = None, version: Any = None) -> Any:
        return self._try("get", key, default, version)

    def set(
        self, key: Any, value: Any, timeout: Any = DEFAULT_TIMEOUT, version: Any = None
    ) -> None:
        self._try("set", key, value, timeout, version)

    def touch(self, key: Any, timeout: Any = DEFAULT_TIMEOUT, version: Any = None) -> bool:
        return self._try("touch", key, timeout, version)

    def delete(self, key: Any, version: Any = None) -> bool:
        return self._try("delete", key, version)

    def has_key(self, key: Any, version: Any = None) -> bool:
        return self._try("has_key", key, version)

    def incr(self, key: Any, delta: int = 1, version: Any = None) -> int:
        return self._try("incr", key, delta, version)

    def get_many(self, keys: Any, version: Any = None) -> dict[Any, Any]:
        return self._try("get_many", list(keys), version)

    def set_many(
        self, data: dict[Any, Any], timeout: Any = DEFAULT_TIMEOUT, version: Any = None
    ) -> list[Any]:
        return self._try("set_many", data, timeout, version)

    def delete_many(self, keys: Any, version: Any = None) -> None:
        self._try("delete_many", list(keys), version)

    def clear(self) -> None:
        self._try("clear")
