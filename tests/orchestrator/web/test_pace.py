"""The pace that senders share: through Redis by all processes, without it by one."""

from __future__ import annotations

import asyncio
import shutil
import uuid
from typing import TYPE_CHECKING, Any

import pytest

from orchestrator.web import pace
from tests.support.product import OwnRedis

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from orchestrator.web.pace import Pace

AWAY = "redis://127.0.0.1:1/0"


def waits(settings: Any, url: str, senders: Callable[[list[Pace]], list[Pace]]) -> list[float]:
    """Return how long each of `senders`, of two processes, waits for its 100 bytes at 100/s."""
    settings.REDIS_URL = url
    key = str(uuid.uuid4())

    async def turns() -> list[float]:
        both = [pace.Pace(), pace.Pace()]
        found = [await one.turn(key, 100, 100.0) for one in senders(both)]
        found.append(await both[0].turn(f"{key}-other", 100, 100.0))
        for one in both:
            await one.close()
        return found

    return asyncio.run(turns())


def test_processes_share_a_pace(settings: Any, tmp_path: Path) -> None:
    if shutil.which("redis-server") is None:
        pytest.skip("redis-server is not installed")
    server = OwnRedis(tmp_path)
    server.start()
    try:
        found = waits(settings, server.url, lambda both: [*both, *both])
    finally:
        server.stop()
    assert found == pytest.approx([0, 1, 2, 3, 0], abs=0.5)


def test_without_redis_each_process_keeps_the_pace(settings: Any) -> None:
    found = waits(settings, AWAY, lambda both: [both[0], both[0], both[1], both[0]])
    assert found == pytest.approx([0, 1, 0, 2, 0], abs=0.5)


def test_a_pace_of_the_past_is_forgotten(settings: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pace, "MOST_KEPT", 10)
    settings.REDIS_URL = AWAY

    async def many() -> int:
        one = pace.Pace()
        for number in range(50):
            await one.turn(str(number), 1, 1e12)
        await one.close()
        return len(one._free)

    assert asyncio.run(many()) <= 10
