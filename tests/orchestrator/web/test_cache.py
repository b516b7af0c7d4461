from __future__ import annotations

import socket
import time
from typing import TYPE_CHECKING

import pytest

from orchestrator.web.cache import FallbackRedisCache

if TYPE_CHECKING:
    from collections.abc import Iterator

TIMEOUTS = {"socket_connect_timeout": 0.5, "socket_timeout": 0.3}


@pytest.fixture
def silent() -> Iterator[int]:
    """A port that accepts and says nothing."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen(20)
        yield listener.getsockname()[1]


def away(port: int) -> FallbackRedisCache:
    cache = FallbackRedisCache(f"redis://127.0.0.1:{port}/0", {"OPTIONS": TIMEOUTS})
    cache.clear()
    return cache


@pytest.fixture
def cache() -> FallbackRedisCache:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        port = listener.getsockname()[1]
    return away(port)


def test_goes_on_in_memory(cache: FallbackRedisCache) -> None:
    assert cache.add("lock", 1)
    assert not cache.add("lock", 1)
    assert cache.incr("lock") == 2
    cache.set("tries", [1.5, 2.5], 60)
    assert cache.get("tries") == [1.5, 2.5]
    assert cache.get_many(["lock", "none"]) == {"lock": 2}
    assert cache.has_key("tries")
    assert cache.touch("tries", 5)
    assert cache.set_many({"a": 1, "b": 2}) == []
    cache.delete_many(["a"])
    assert cache.get("a", "gone") == "gone"
    assert cache.delete("b")
    assert cache.get_or_set("c", lambda: 3) == 3


def test_a_silent_redis_is_asked_once_and_then_left_alone(silent: int) -> None:
    began = time.monotonic()
    cache = away(silent)
    for number in range(20):
        cache.set("key", number)
    assert cache.get("key") == 19
    assert time.monotonic() - began < 7.5
