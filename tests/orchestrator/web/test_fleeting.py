"""What is told to whoever listens now: it costs nothing else, blocks nobody and hides secrets."""

from __future__ import annotations

import logging
import sys
import time
from typing import TYPE_CHECKING, Any

import pytest
import structlog
from django.conf import settings

from hosts.drivers.base import Report
from hosts.watching.passing import AT_ONCE, Passing
from orchestrator.db.ids import uuid7
from orchestrator.web import wake
from orchestrator.web.fleeting import WAITING, Sender
from orchestrator.web.log_lines import LONGEST, line_of
from tests.support.product import OwnRedis, until

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


@pytest.fixture
def redis(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[OwnRedis]:
    server = OwnRedis(tmp_path)
    server.start()
    monkeypatch.setattr(settings, "REDIS_URL", server.url)
    wake.client.cache_clear()
    yield server
    wake.client.cache_clear()
    server.stop()


def test_who_listens_hears_and_without_listeners_nothing_is_kept(redis: OwnRedis) -> None:
    sender = Sender("test")
    sender.offer("to nobody")
    until(lambda: not sender.is_heard, 5, "it notes that nobody listens")
    began = time.monotonic()
    for _ in range(10 * WAITING):
        sender.offer("lost")
    assert time.monotonic() - began < 1
    with wake.client().pubsub() as listener:
        listener.subscribe("test")
        assert listener.get_message(timeout=5)["type"] == "subscribe"  # type: ignore[index]
        until(lambda: sender.is_heard, 5, "it tries again")
        sender.offer("heard")
        assert listener.get_message(timeout=5)["data"] == b"heard"  # type: ignore[index]
    redis.stop()
    sender.offer("to a Redis that is away")
    until(lambda: not sender.is_heard, 5, "it gives up, and its caller knows nothing of it")


def test_a_busy_host_is_cut_and_others_are_heard(monkeypatch: pytest.MonkeyPatch) -> None:
    passing, texts = Passing(), []
    monkeypatch.setattr(passing._sender, "offer", texts.append)
    busy, quiet = uuid7(), uuid7()
    for number in range(10 * AT_ONCE):
        passing.on(busy, Report("traffic", "HTTP Traffic Forwarded", {"n": number}))
    passing.on(quiet, Report("stats", "System Stats", {"cpu_percent": 1.5}))
    assert AT_ONCE <= len(texts) - 1 < 2 * AT_ONCE
    assert str(quiet) in texts[-1]


def record(message: Any, *arguments: Any, failed: bool = False) -> logging.LogRecord:
    trace = sys.exc_info() if failed else None
    return logging.LogRecord("x", logging.WARNING, "f.py", 1, message, arguments, trace)


def test_a_line_says_what_happened_without_secrets_and_traces() -> None:
    event = {"event": "host.failed", "host": "mac-1", "token": "planted", "logger": "hosts.x"}
    assert line_of(record(event))["message"] == "host.failed host=mac-1 token=[hidden]"
    try:
        raise ValueError("planted")
    except ValueError:
        line = line_of(record("Bad: %s", "Bearer eyJplanted", failed=True))
    assert (line["level"], line["message"]) == ("warning", "Bad: Bearer [hidden]")
    assert len(line_of(record("x" * 9999))["message"]) == LONGEST


def test_our_own_loggers_go_through_it(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING):
        structlog.get_logger("test").warning("it.happened", count=3)
    line = line_of(caplog.records[-1])
    assert line["message"].startswith("it.happened count=3")
